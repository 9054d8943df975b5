"""Where the controller of an array with heads is, and what its cables have from the beginning."""

from __future__ import annotations

from lab.commands import LocalRunner
from lab.mininet_classes import Host
from lab.topology.heads import HeadSpec


class Manager(Host):
    """The node of the controller: its management cables end in one bridge.

    That is there first, so that no cable has one interface number at both ends: the kernel would
    tell of its carrier up to a second later (as in lab.run.lab).
    """

    def __init__(self, name: str, **params: object) -> None:
        super().__init__(name, **params)
        LocalRunner(name, self.pid).run(["ip", "link", "add", "admin", "type", "bridge"])


def boot_addresses(spec: HeadSpec) -> dict[str, list[str]]:
    """What a head's kernel has on its interfaces from its boot on."""
    return {spec.port.interface: [], spec.management: [str(spec.address)]}
