"""SCSI commands of our own to a disk: its identity, its capacity, its reservation.

The host's kernel caches such answers, so it cannot tell what the array says now. This module builds
the commands and parses the answers (SPC-4, SBC-3); sg_raw in the host passes them on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lab.errors import LabError
from lab.host.host import LabHost

GOOD, CONFLICT = 0, 24
"""Exit statuses of sg_raw (sg3_utils(8)): GOOD; RESERVATION CONFLICT."""
WRITE_EXCLUSIVE = 1
"""Reservation type Write Exclusive: others may only read (SPC-4, table 61)."""
REGISTRANTS_ONLY = 5
"""Reservation type Write Exclusive - Registrants Only: all hosts with a key may write."""

_REGISTER, _RESERVE, _RELEASE = 0, 1, 2
_ROOM = 252


@dataclass(frozen=True)
class Command:
    """A SCSI command: CDB, the most bytes to receive, and the data to send."""

    cdb: bytes
    receive: int = 0
    data: bytes = b""

    def line(self, device: str) -> str:
        """The command as a line for the guest program `scsi`."""
        return f"{device} {self.cdb.hex()} {self.receive} {self.data.hex() or '-'}"


def inquiry(page: int) -> Command:
    """INQUIRY for the vital product data page `page` (SPC-4, 6.6)."""
    return Command(bytes([0x12, 1, page, 0, _ROOM, 0]), _ROOM)


READ_CAPACITY = Command(bytes([0x9E, 0x10]) + bytes(11) + bytes([32, 0, 0]), 32)
READ_KEYS = Command(bytes([0x5E, 0]) + bytes(6) + bytes([_ROOM, 0]), _ROOM)
READ_RESERVATION = Command(bytes([0x5E, 1]) + bytes(6) + bytes([_ROOM, 0]), _ROOM)


def reserve_out(
    action: int, key: int, new_key: int = 0, *, aptpl: bool = False, kind: int = WRITE_EXCLUSIVE
) -> Command:
    """PERSISTENT RESERVE OUT (SPC-4, 6.16) with the service action `action`.

    `key` is the sender's key, `new_key` the key to register. `aptpl`: the registration outlasts a
    power cut of the array. `kind`: the type of the reservation.
    """
    kind = 0 if action == _REGISTER else kind
    data = key.to_bytes(8, "big") + new_key.to_bytes(8, "big") + bytes(4) + bytes([aptpl, 0, 0, 0])
    return Command(bytes([0x5F, action, kind, 0, 0, 0, 0, 0, len(data), 0]), 0, data)


def write_block(block: int) -> Command:
    """WRITE(10) of one block of 512 bytes, all zeros (SBC-3, 5.32)."""
    return Command(b"\x2a\0" + block.to_bytes(4, "big") + b"\0\0\x01\0", 0, bytes(512))


def send(host: LabHost, commands: list[tuple[str, Command]]) -> list[tuple[int, bytes]]:
    """Send each command to its device ("sda"); returns sg_raw's exit status and data for each."""
    lines = "".join(f"{command.line(device)}\n" for device, command in commands)
    shown = host.kernel.runner.run(["sh", "/run/lab/scsi"], stdin=lines, seconds=60.0).output
    answers = [line.partition(" ") for line in shown.splitlines()]
    if len(answers) != len(commands):
        raise LabError(f"{host.name}: {len(commands)} SCSI commands got {shown[:300]!r}")
    return [(int(status), bytes.fromhex(found)) for status, _, found in answers]


def _must(host: LabHost, commands: list[tuple[str, Command]]) -> list[bytes]:
    answers = send(host, commands)
    for (device, command), (status, _) in zip(commands, answers, strict=True):
        if status != GOOD:
            text = f"{host.name}: {device}: sg_raw {command.cdb.hex(' ')} ended with {status}"
            raise LabError(f"{text}; see sg3_utils(8)")
    return [data for _, data in answers]


def identity(serial: bytes, device: bytes, capacity: bytes) -> dict[str, Any]:
    """Parse VPD pages 0x80 and 0x83 and READ CAPACITY(16); LabError if one is cut short."""
    for page, number in ((serial, 0x80), (device, 0x83)):
        if len(page) < 4 or page[1] != number or len(page) < 4 + int.from_bytes(page[2:4], "big"):
            raise LabError(f"incomplete VPD page {number:#x}: {page.hex() or 'nothing'}")
    if len(capacity) < 12:
        raise LabError(f"READ CAPACITY(16) is cut short: {capacity.hex() or 'nothing'}")
    blocks = int.from_bytes(capacity[:8], "big") + 1
    size = int.from_bytes(capacity[8:12], "big")
    return {
        "serial": serial[4 : 4 + int.from_bytes(serial[2:4], "big")].decode("ascii", "replace"),
        "designators": device[4 : 4 + int.from_bytes(device[2:4], "big")].hex(),
        "size_bytes": blocks * size,
        "block_bytes": size,
    }


def reservation(keys: bytes, held: bytes) -> dict[str, Any]:
    """Parse READ KEYS and READ RESERVATION (SPC-4, 6.15); no holder: `holder`, `type` are None."""
    count = int.from_bytes(keys[4:8], "big") // 8
    found = {
        "keys": [f"0x{keys[8 + 8 * n : 16 + 8 * n].hex()}" for n in range(count)],
        "generation": int.from_bytes(keys[:4], "big"),
        "holder": None,
        "type": None,
    }
    if int.from_bytes(held[4:8], "big"):
        found |= {"holder": f"0x{held[8:16].hex()}", "type": held[21] & 0x0F}
    return found


def record_identity(host: LabHost, moment: str) -> None:
    """Read the identity of every disk of `host` and record it (kind `identity`)."""
    asked = (inquiry(0x80), inquiry(0x83), READ_CAPACITY)
    disks = [(session, disk) for session in host.initiator.sessions() for disk in session.disks]
    answers = iter(_must(host, [(disk.device, one) for _, disk in disks for one in asked]))
    for session, disk in disks:
        found = identity(*(next(answers) for _ in asked))
        found |= {"target": session.target, "lun": disk.lun, "device": disk.device}
        host.lab.timeline.add(host.name, "identity", moment=moment, **found)


def record_reservation(host: LabHost, moment: str) -> None:
    """Read the reservation of the first disk of `host` and record it (kind `reservation`)."""
    session = host.initiator.sessions()[0]
    asked = (READ_KEYS, READ_RESERVATION)
    found = reservation(*_must(host, [(session.device, one) for one in asked]))
    found |= {"target": session.target, "lun": session.disks[0].lun}
    host.lab.timeline.add(host.name, "reservation", moment=moment, **found)


def try_to_write(host: LabHost, moment: str) -> None:
    """Let `host` write the last block of its first disk and record the result (kind `attempt`).

    `status` is "ok", "conflict", or another status of sg_raw.
    """
    disk = host.initiator.sessions()[0].disks[0]
    ((status, _),) = send(host, [(disk.device, write_block(disk.size_bytes // 512 - 1))])
    told = {GOOD: "ok", CONFLICT: "conflict"}.get(status, f"sg_raw {status}")
    host.lab.timeline.add(host.name, "attempt", moment=moment, lun=disk.lun, status=told)


def register(host: LabHost, key: int, *, aptpl: bool = False) -> None:
    """Register `key` for `host` at its first disk; see reserve()."""
    device = host.initiator.sessions()[0].device
    _must(host, [(device, reserve_out(_REGISTER, 0, key, aptpl=aptpl))])


def reserve(host: LabHost, key: int, *, aptpl: bool = False, kind: int = WRITE_EXCLUSIVE) -> None:
    """Register `key` for `host` at its first disk and reserve the disk: others may only read.

    `aptpl`: both outlast a power cut of the array. `kind`: the type of the reservation. Raises
    LabError if the disk refuses.
    """
    register(host, key, aptpl=aptpl)
    device = host.initiator.sessions()[0].device
    _must(host, [(device, reserve_out(_RESERVE, key, kind=kind))])


def release(host: LabHost, key: int) -> None:
    """Release the reservation (Write Exclusive) that `host` holds with `key` at its first disk."""
    device = host.initiator.sessions()[0].device
    _must(host, [(device, reserve_out(_RELEASE, key))])
