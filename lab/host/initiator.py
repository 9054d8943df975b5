"""What an initiator is to a lab, and the initiators there are, by the command line's names.

Each is a `Kind` that an installed package names as an entry point of the group
`failover_lab.initiators`; ours are in pyproject.toml.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from lab.array.access import Secrets
from lab.commands import Runner
from lab.folder import Folder
from lab.registry import Registry
from lab.timeline import Timeline

DEFAULT = "open-iscsi"


@dataclass(frozen=True, order=True)
class Disk:
    """A disk of a session: its LUN, its device in the host ("sda"), its size, its serial number."""

    lun: int
    device: str
    size_bytes: int
    serial: str


@dataclass(frozen=True)
class Session:
    """One iSCSI session as the host's kernel has it.

    Portals are "address:port": `persistent` is the one the host logged in at and returns to,
    `current` the one it was redirected to; "" where the kernel has none. `connection` is the TCP
    connection, "local peer". `device` is the disk of the lowest LUN ("sda"), with its serial number
    and size; `disks` has all of them, by LUN.
    """

    sid: int
    target: str
    state: str
    current: str
    persistent: str
    device: str
    serial: str
    size_bytes: int
    connection: str
    disks: tuple[Disk, ...] = ()

    @property
    def address(self) -> str:
        """The address that serves the session."""
        return self.current.rpartition(":")[0].strip("[]")


class Initiator(Protocol):
    """What a scenario needs of an initiator."""

    name: str
    relogin_ms: float
    """Within which its disk goes on after it has lost its port and has to log in anew."""

    def start(self) -> None:
        """Make it ready for discover() and login()."""

    def learn(self, known: Secrets) -> None:
        """Prove itself with what is `known`, and want proofs, from the next discovery on."""

    def discover(self, portal: str) -> list[str]:
        """The portals that SendTargets names at `portal`, also put on the timeline."""

    def login(self, target: str, portal: str) -> Session:
        """Log in to `target` at `portal`; returns with the session up and its disk there."""

    def sessions(self) -> list[Session]:
        """The sessions there are now."""

    def logout(self, target: str) -> None:
        """Log out of `target`."""

    def writer(self, session: Session) -> list[str]:
        """The command that writes to the disk of `session`, but for what the load adds."""

    def kill(self) -> None:
        """End at once what runs of it on this machine; its host's own kernel is ended by others."""


@dataclass(frozen=True)
class Seat:
    """What an initiator is given: where its commands run, and where it puts what happens.

    `luns`: the number of the first disk of each target, by the target's name.
    """

    runner: Runner
    timeline: Timeline
    folder: Folder
    luns: Mapping[str, int]


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Kind:
    """What an initiator is.

    `make` makes the one of a host. With `own_kernel` that host has a kernel of its own; without, it
    is a network namespace of this machine, and the runner a LocalRunner. `require` raises Missing
    for what this machine lacks. `versions` are those of the software under test; it is given what
    the release image says of its packages.
    """

    make: Callable[[Seat], Initiator]
    own_kernel: bool
    versions: Callable[[Mapping[str, str]], dict[str, str]]
    require: Callable[[], None] = _nothing


INITIATORS = Registry("failover_lab.initiators", "initiator", Kind, DEFAULT)

find = INITIATORS.find
