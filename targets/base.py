"""What every target engine offers, in the terms of iSCSI, and what only some of them can do."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from lab.errors import BadInput

ISCSI_PORT = 3260

# RFC 3720 section 3.2.6.3.1 (RFC 7143 4.2.7): iqn.yyyy-mm.reversed-domain[:anything]; eui. and naa.
_IQN = re.compile(r"iqn\.\d{4}-\d{2}\.[a-z0-9][a-z0-9.-]*(:[a-z0-9.:_-]+)?|eui\.[0-9a-f]{16}")
_SCSI_ID = re.compile(r"[0-9a-fA-F]{1,31}")
_SERIAL = re.compile(r"[A-Za-z0-9]{1,36}")
_CREDENTIAL = re.compile(r"[!-+\--~]{1,200}")


@dataclass(frozen=True)
class Lun:
    """A disk: its LUN `number`, the file behind it, its size, and who it says it is.

    `scsi_id` (hexadecimal) ends up in the device identification page, VPD 0x83, and `serial` in
    VPD 0x80; hosts tell disks apart by them, so they must differ from those of any other disk and
    must not change when the disk is served elsewhere.
    """

    number: int
    path: Path
    size_bytes: int
    scsi_id: str
    serial: str


@dataclass(frozen=True)
class ChapAccount:
    """A CHAP name and secret; `mutual` means that the target proves itself to the host with it."""

    user: str
    secret: str = field(repr=False)
    mutual: bool = False


@dataclass(frozen=True)
class TargetSpec:
    """A target: its name, its disks, and who may log in.

    With no `accounts` nobody is asked for a secret; with no `initiators` (initiator names) every
    host may log in.
    """

    iqn: str
    luns: tuple[Lun, ...]
    accounts: tuple[ChapAccount, ...] = ()
    initiators: tuple[str, ...] = ()


@dataclass(frozen=True)
class EngineSession:
    """A session as the engine sees it.

    `portal` is the engine's end of its TCP connection ("10.0.0.12:3260"), None where the engine
    cannot tell two connections of one host apart. `sid` and `connection` are the engine's own
    numbers, those that `cut` takes.
    """

    target: str
    initiator: str
    initiator_address: str
    portal: str | None
    sid: int
    connection: int


class TargetEngine(Protocol):
    """A process or kernel that serves targets at portals."""

    name: str

    @property
    def local_portal(self) -> str:
        """A portal that only the array's own processes reach."""

    def start(self) -> None:
        """Start serving nothing at no portal; returns once the engine answers."""

    def create(self, target: TargetSpec) -> None:
        """Make a target and its disks; raises BadInput for a description that cannot be used."""

    def expose(self, portal: str) -> None:
        """Listen at `portal`, an address that the array has ("10.0.0.12", "[fd00::1]:3260")."""

    def hide(self, portal: str) -> None:
        """Stop listening at `portal`; the connections that it has live on."""

    def sessions(self) -> list[EngineSession]:
        """The sessions that are logged in, those of discovery left out."""

    def cut(self, session: EngineSession) -> None:
        """Close the TCP connection of `session` with no word to the host."""

    def set_parameter(self, iqn: str, name: str, value: str) -> None:
        """Set what the target offers at login, for example DefaultTime2Wait (RFC 7143 sec. 13)."""

    def protect_discovery(self, account: ChapAccount) -> None:
        """Ask for a secret at discovery too, at the engine's own portals, whatever the targets."""

    def version(self) -> str:
        """The engine's version, as it states it."""

    def stop(self) -> None:
        """End it and remove everything of it but the disks; may be called twice."""


@runtime_checkable
class KillableDaemon(Protocol):
    """An engine that is a process."""

    def kill(self) -> None:
        """SIGKILL: every connection is reset, what was written stays."""

    def restart(self) -> None:
        """Serve the same targets at the same portals again after `kill`."""


@runtime_checkable
class OwnKernel(Protocol):
    """An engine inside a kernel of its own."""

    def power_cut(self) -> None:
        """End that kernel without any shutting down."""

    def power_on(self) -> None:
        """Boot it and serve the same targets at the same portals again."""


@runtime_checkable
class RedirectsNatively(Protocol):
    """An engine that can answer a login with Status-Class 0x01 (RFC 7143 sec. 11.13.5)."""

    def redirect(self, iqn: str, portal: str | None, *, permanent: bool = False) -> None:
        """Send every login at any portal of `iqn` to `portal`; None: serve it again."""


def split_portal(portal: str) -> tuple[str, int]:
    """The address, in its shortest spelling and without brackets, and the port of `portal`.

    Takes "10.0.0.1", "10.0.0.1:3260", "fd00::1" and "[fd00::1]:3260"; raises BadInput for others.
    """
    address, port = portal, str(ISCSI_PORT)
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(\d+))?", portal)
    if bracketed:
        address, port = bracketed[1], bracketed[2] or port
    elif portal.count(":") == 1:
        address, port = portal.split(":")
    try:
        shortest = str(ipaddress.ip_address(address))
        if not (port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError
    except ValueError:
        raise BadInput(f"portal {portal!r}: not an IP address with an optional port") from None
    return shortest, int(port)


def join_portal(address: str, port: int = ISCSI_PORT) -> str:
    """The one spelling of a portal: "10.0.0.1:3260", "[fd00::1]:3260"."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def check_iqn(iqn: str) -> None:
    """Raise BadInput unless `iqn` is an iSCSI name of at most 223 characters."""
    if not _IQN.fullmatch(iqn) or len(iqn) > 223:
        raise BadInput(f"target name {iqn!r}: not an iSCSI name like iqn.2024-01.lab.a1:disk1")


def check_target(target: TargetSpec) -> None:
    """Raise BadInput, with the place, if a target cannot be served as it is described."""
    check_iqn(target.iqn)
    for name in target.initiators:
        check_iqn(name)
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
    """Raise BadInput, naming `place` and never a secret, for accounts that no engine takes."""
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


def _check_lun(place: str, lun: Lun) -> None:
    if not 1 <= lun.number <= 255:
        raise BadInput(f"{place}: the number must be 1 to 255")
    if lun.size_bytes < 1 << 20 or lun.size_bytes % 4096:
        raise BadInput(f"{place}: size {lun.size_bytes}: at least 1 MiB, a multiple of 4096 bytes")
    # Hexadecimal, because tgt makes the NAA designator of it, and reads any other letter as 0:
    # two disks would get one identity.
    if not _SCSI_ID.fullmatch(lun.scsi_id):
        raise BadInput(f"{place}: scsi_id {lun.scsi_id!r}: 1 to 31 hexadecimal digits")
    if not _SERIAL.fullmatch(lun.serial):
        raise BadInput(f"{place}: serial {lun.serial!r}: 1 to 36 letters and digits")
    if any(c in str(lun.path) for c in ", \n"):
        raise BadInput(f"{place}: path {str(lun.path)!r}: no blanks or commas")


def make_sparse(lun: Lun) -> None:
    """Make the sparse file behind `lun`; BadInput if there is one of another size."""
    if lun.path.exists():
        size = lun.path.stat().st_size
        if size != lun.size_bytes:
            raise BadInput(f"LUN {lun.number}: {lun.path} has {size} bytes, not {lun.size_bytes}")
        return
    lun.path.parent.mkdir(parents=True, exist_ok=True)
    with lun.path.open("xb") as file:
        file.truncate(lun.size_bytes)
