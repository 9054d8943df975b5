"""The interfaces of target engines: what all of them offer, and what only some can do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from lab.commands import OnLine, Process, Runner
from lab.errors import BadInput
from lab.iscsi_names import check_iqn

_SCSI_ID = re.compile(r"[0-9a-fA-F]{1,31}")
_SERIAL = re.compile(r"[A-Za-z0-9]{1,36}")
_CREDENTIAL = re.compile(r"[!-+\--~]{1,200}")


class Place(Protocol):
    """Where an engine or a front runs: a network namespace, or a kernel of its own."""

    @property
    def runner(self) -> Runner:
        """The runner for its commands; LabError while it is powered off."""

    @property
    def folder(self) -> Path:
        """The folder for files, in memory."""

    def put(self, name: str, text: str) -> Path:
        """Write the file `name` in the folder, atomically, and return its local path."""

    def put_away(self, *names: str) -> None:
        """Remove files or folders in the folder, if they exist."""

    def start_module(
        self,
        module: str,
        *arguments: str,
        log: Path,
        on_line: OnLine,
        isolated: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a Python module of this project; `isolated`: it needs the standard library only."""


class KernelPlace(Place, Protocol):
    """A kernel of its own: a power cut loses its memory."""

    @property
    def memory(self) -> Path:
        """A file for a small private disk of the array, which survives power cuts."""

    def plug(self, path: Path) -> str:
        """Attach a file as a disk, also at later boots; returns its device."""

    def unplug(self, device: str) -> None:
        """Detach a disk."""

    def power_cut(self) -> None:
        """End the kernel at once."""

    def power_on(self) -> None:
        """Boot it again, and wait until it accepts commands."""


@dataclass(frozen=True)
class LogicalUnit:
    """A disk: its LUN `number`, the file behind it, its size, and its identity.

    `scsi_id` (hexadecimal) goes into the device identification page, VPD 0x83, and `serial` into
    VPD 0x80. Hosts tell disks apart by them: they must be unique, and must not change when the disk
    is served elsewhere.
    """

    number: int
    path: Path
    size_bytes: int
    scsi_id: str
    serial: str


@dataclass(frozen=True)
class ChapAccount:
    """A CHAP name and secret; `mutual`: it authenticates the target to the host."""

    user: str
    secret: str = field(repr=False)
    mutual: bool = False


@dataclass(frozen=True)
class TargetSpec:
    """A target: its name, its disks, and who may log in.

    No `accounts`: no CHAP. No `initiators` (initiator names): every host may log in.
    """

    iqn: str
    luns: tuple[LogicalUnit, ...]
    accounts: tuple[ChapAccount, ...] = ()
    initiators: tuple[str, ...] = ()


class TargetEngine(Protocol):
    """A process or kernel that serves targets at portals."""

    name: str

    @property
    def local_portal(self) -> str:
        """A portal that only the array's own processes reach."""

    def start(self) -> None:
        """Start without targets and portals; returns once the engine answers."""

    def create(self, target: TargetSpec) -> None:
        """Make a target and its disks; raises BadInput for an invalid description."""

    def expose(self, portal: str) -> None:
        """Listen at `portal`, an address that the array has ("10.0.0.12", "[fd00::1]:3260")."""

    def set_parameter(self, iqn: str, name: str, value: str) -> None:
        """Set what the target offers at login, for example DefaultTime2Wait (RFC 7143 sec. 13)."""

    def protect_discovery(self, account: ChapAccount) -> None:
        """Require `account` in discovery sessions too, at all portals of the engine."""

    def version(self) -> str:
        """The engine's version, as it states it."""

    def stop(self) -> None:
        """End it and remove all but the disks; may be called twice."""


@runtime_checkable
class KillableDaemon(Protocol):
    """An engine that is a process."""

    def kill(self) -> None:
        """SIGKILL: every connection is reset, written data stays."""

    def restart(self) -> None:
        """Serve the same targets at the same portals again after `kill`."""


@runtime_checkable
class OwnKernel(Protocol):
    """An engine inside a kernel of its own."""

    def power_cut(self) -> None:
        """End that kernel without a shutdown."""

    def power_on(self) -> None:
        """Boot it and serve the same targets at the same portals again."""


@runtime_checkable
class RedirectsNatively(Protocol):
    """An engine that can answer a login with Status-Class 0x01 (RFC 7143 sec. 11.13.5)."""

    def redirect(self, iqn: str, portal: str | None, *, permanent: bool = False) -> None:
        """Send every login at any portal of `iqn` to `portal`; None: serve it again."""


def check_target(target: TargetSpec) -> None:
    """Raise BadInput, with the place, if a target's description is invalid."""
    check_iqn(target.iqn, "target")
    for name in target.initiators:
        check_iqn(name, f"target {target.iqn}, initiators")
    if not target.luns:
        raise BadInput(f"target {target.iqn}: has no LUN")
    for lun in target.luns:
        _check_lun(f"target {target.iqn}, LUN {lun.number}", lun)
    for what in ("number", "path", "scsi_id", "serial"):
        values = [getattr(lun, what) for lun in target.luns]
        if len(set(values)) < len(values):
            raise BadInput(f"target {target.iqn}: two LUNs with one {what}: {values}")
    check_accounts(f"target {target.iqn}", target.accounts)


def check_accounts(place: str, accounts: Sequence[ChapAccount]) -> None:
    """Raise BadInput for accounts that no engine accepts; it names `place`, never a secret."""
    for account in accounts:
        if not _CREDENTIAL.fullmatch(account.user):
            raise BadInput(f"{place}: CHAP name {account.user!r}: no blanks, commas or non-ASCII")
        # 96 bits: RFC 7143 sec. 12.1.3.
        if not _CREDENTIAL.fullmatch(account.secret) or len(account.secret) < 12:
            raise BadInput(
                f"{place}: CHAP secret of {account.user}: 12 characters or more, "
                "no blanks, commas or non-ASCII"
            )
    if sum(account.mutual for account in accounts) > 1:
        raise BadInput(f"{place}: more than one account for mutual CHAP")
    if any(a.mutual for a in accounts) and all(a.mutual for a in accounts):
        raise BadInput(f"{place}: mutual CHAP needs an account that hosts log in with as well")
    users = [account.user for account in accounts]
    if len(set(users)) < len(users):
        raise BadInput(f"{place}: two CHAP accounts with one name: {users}")


def _check_lun(place: str, lun: LogicalUnit) -> None:
    if not 1 <= lun.number <= 255:
        raise BadInput(f"{place}: the number must be 1 to 255")
    if lun.size_bytes < 1 << 20 or lun.size_bytes % 4096:
        raise BadInput(f"{place}: size {lun.size_bytes}: at least 1 MiB, a multiple of 4096 bytes")
    # Hexadecimal: tgt makes the NAA designator from it and reads any other letter as 0, so two
    # disks could get the same identity.
    if not _SCSI_ID.fullmatch(lun.scsi_id):
        raise BadInput(f"{place}: scsi_id {lun.scsi_id!r}: 1 to 31 hexadecimal digits")
    if not _SERIAL.fullmatch(lun.serial):
        raise BadInput(f"{place}: serial {lun.serial!r}: 1 to 36 letters and digits")
    if any(c in str(lun.path) for c in ", \n"):
        raise BadInput(f"{place}: path {str(lun.path)!r}: no blanks or commas")


def make_sparse(lun: LogicalUnit) -> None:
    """Make the sparse file behind `lun`; BadInput if there is one of another size."""
    if lun.path.exists():
        size = lun.path.stat().st_size
        if size != lun.size_bytes:
            raise BadInput(f"LUN {lun.number}: {lun.path} has {size} bytes, not {lun.size_bytes}")
        return
    lun.path.parent.mkdir(parents=True, exist_ok=True)
    with lun.path.open("xb") as file:
        file.truncate(lun.size_bytes)
