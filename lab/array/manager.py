"""The node of the controller of an array with heads, and the first addresses of the heads."""

from __future__ import annotations

from lab.commands import LocalRunner
from lab.mininet_classes import Host
from lab.topology.heads import HeadSpec


class Manager(Host):
    """The node of the controller: its management cables end in one bridge.

    The bridge is made first, so that no cable has the same interface number at both ends: the
    kernel would report its carrier up to 1 s late (see Lab._network).
    """

    def __init__(self, name: str, **params: object) -> None:
        super().__init__(name, **params)
        LocalRunner(name, self.pid).run(["ip", "link", "add", "admin", "type", "bridge"])


def boot_addresses(spec: HeadSpec) -> dict[str, list[str]]:
    """The addresses that each interface of a head's kernel has from boot."""
    return {spec.port.interface: [], spec.management: [str(spec.address)]}
