"""The interface of an initiator, and all initiators by their names on the command line.

Each is a `Kind`, an entry point of an installed package in the group `failover_lab.initiators`.
Ours are in pyproject.toml.
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
    """One iSCSI session, as the host's kernel shows it.

    Portals are "address:port", or "" if the kernel shows none. `persistent`: where the host logged
    in and will return to. `current`: where it was redirected to. `connection`: the TCP connection,
    "local peer". `device`: the disk of the lowest LUN ("sda"); `serial` and `size_bytes` are of
    that disk. `disks`: all disks, by LUN.
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
    """Longest time until I/O goes on after a lost port and a new login, in milliseconds."""

    def start(self) -> None:
        """Make it ready for discover() and login()."""

    def learn(self, known: Secrets) -> None:
        """Use the CHAP accounts `known`, in both directions, from the next discovery on."""

    def discover(self, portal: str) -> list[str]:
        """The portals in the SendTargets answer of `portal`; also added to the timeline."""

    def login(self, target: str, portal: str) -> Session:
        """Log in to `target` at `portal`; returns when the session is up and has its disk."""

    def sessions(self) -> list[Session]:
        """The current sessions."""

    def logout(self, target: str) -> None:
        """Log out of `target`."""

    def writer(self, session: Session) -> list[str]:
        """The command that writes to the disk of `session`; the load appends arguments."""

    def kill(self) -> None:
        """End its processes on this machine at once. A kernel of its host is ended elsewhere."""


@dataclass(frozen=True)
class Seat:
    """What an initiator is given: the runner for its commands, the timeline, the run folder.

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
    """A kind of initiator.

    `make` makes the initiator of one host. With `own_kernel` the host has its own kernel. Without,
    it is a network namespace of this machine, and the runner is a LocalRunner. `require` raises
    Missing for what this machine lacks. `versions` returns the versions of the software under test;
    its argument are the package versions of the release image.
    """

    make: Callable[[Seat], Initiator]
    own_kernel: bool
    versions: Callable[[Mapping[str, str]], dict[str, str]]
    require: Callable[[], None] = _nothing


INITIATORS = Registry("failover_lab.initiators", "initiator", Kind, DEFAULT)

find = INITIATORS.find
