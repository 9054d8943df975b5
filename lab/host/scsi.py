"""SCSI commands of the lab to a disk: its identity, size and reservation.

The host's kernel caches such answers, so it does not show the present state of the array. Commands
and answers are encoded here (SPC-4, SBC-3); sg_raw in the host sends them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lab.errors import LabError
from lab.host.host import LabHost

GOOD, CONFLICT = 0, 24
"""Exit statuses of sg_raw (sg3_utils(8)): GOOD, and RESERVATION CONFLICT."""
WRITE_EXCLUSIVE = 1
"""Type of a reservation: others may read only (SPC-4, table 61)."""

_REGISTER, _RESERVE = 0, 1
_ROOM = 252


@dataclass(frozen=True)
class Command:
    """A command: its CDB, the most bytes that may come back, and the data sent with it."""

    cdb: bytes
    receive: int = 0
    data: bytes = b""

    def line(self, device: str) -> str:
        """The line for the guest program `scsi`."""
        return f"{device} {self.cdb.hex()} {self.receive} {self.data.hex() or '-'}"


def inquiry(page: int) -> Command:
    """INQUIRY for the vital product data page `page` (SPC-4, 6.6)."""
    return Command(bytes([0x12, 1, page, 0, _ROOM, 0]), _ROOM)


READ_CAPACITY = Command(bytes([0x9E, 0x10]) + bytes(11) + bytes([32, 0, 0]), 32)
READ_KEYS = Command(bytes([0x5E, 0]) + bytes(6) + bytes([_ROOM, 0]), _ROOM)
READ_RESERVATION = Command(bytes([0x5E, 1]) + bytes(6) + bytes([_ROOM, 0]), _ROOM)


def reserve_out(action: int, key: int, new_key: int = 0, *, aptpl: bool = False) -> Command:
    """PERSISTENT RESERVE OUT (SPC-4, 6.16) with the service action `action`.

    `key` is the sender's key, `new_key` the one to register. `aptpl`: the registration must survive
    a power cut.
    """
    kind = 0 if action == _REGISTER else WRITE_EXCLUSIVE
    data = key.to_bytes(8, "big") + new_key.to_bytes(8, "big") + bytes(4) + bytes([aptpl, 0, 0, 0])
    return Command(bytes([0x5F, action, kind, 0, 0, 0, 0, 0, len(data), 0]), 0, data)


def write_block(block: int) -> Command:
    """WRITE(10) of one block of 512 bytes, all zeros (SBC-3, 5.32)."""
    return Command(b"\x2a\0" + block.to_bytes(4, "big") + b"\0\0\x01\0", 0, bytes(512))


def send(host: LabHost, commands: list[tuple[str, Command]]) -> list[tuple[int, bytes]]:
    """Send each command to its device ("sda"). Returns sg_raw's exit statuses and the answers."""
    lines = "".join(f"{command.line(device)}\n" for device, command in commands)
    shown = host.kernel.runner.run(["sh", "/run/lab/scsi"], stdin=lines, seconds=60.0).output
    answers = [line.partition(" ") for line in shown.splitlines()]
    if len(answers) != len(commands):
        raise LabError(f"{host.name}: {len(commands)} SCSI commands, answered: {shown[:300]}")
    return [(int(status), bytes.fromhex(found)) for status, _, found in answers]


def _must(host: LabHost, commands: list[tuple[str, Command]]) -> list[bytes]:
    answers = send(host, commands)
    for (device, command), (status, _) in zip(commands, answers, strict=True):
        if status != GOOD:
            text = f"{host.name}: {device}: sg_raw {command.cdb.hex(' ')} ended with {status}"
            raise LabError(f"{text}; see sg3_utils(8)")
    return [data for _, data in answers]


def identity(serial: bytes, device: bytes, capacity: bytes) -> dict[str, Any]:
    """Parse VPD pages 0x80 and 0x83 and READ CAPACITY(16); LabError if they are incomplete."""
    for page, number in ((serial, 0x80), (device, 0x83)):
        if len(page) < 4 or page[1] != number or len(page) < 4 + int.from_bytes(page[2:4], "big"):
            raise LabError(f"no whole VPD page {number:#x}: {page.hex() or 'nothing'}")
    if len(capacity) < 12:
        raise LabError(f"no answer to READ CAPACITY(16): {capacity.hex() or 'nothing'}")
    blocks = int.from_bytes(capacity[:8], "big") + 1
    size = int.from_bytes(capacity[8:12], "big")
    return {
        "serial": serial[4 : 4 + int.from_bytes(serial[2:4], "big")].decode("ascii", "replace"),
        "designators": device[4 : 4 + int.from_bytes(device[2:4], "big")].hex(),
        "size_bytes": blocks * size,
        "block_bytes": size,
    }


def reservation(keys: bytes, held: bytes) -> dict[str, Any]:
    """Parse READ KEYS and READ RESERVATION (SPC-4, 6.15); `holder`, `type` None: none."""
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
    """Put the identity of every disk of `host` on the timeline (kind `identity`)."""
    asked = (inquiry(0x80), inquiry(0x83), READ_CAPACITY)
    disks = [(session, disk) for session in host.initiator.sessions() for disk in session.disks]
    answers = iter(_must(host, [(disk.device, one) for _, disk in disks for one in asked]))
    for session, disk in disks:
        found = identity(*(next(answers) for _ in asked))
        found |= {"target": session.target, "lun": disk.lun, "device": disk.device}
        host.lab.timeline.add(host.name, "identity", moment=moment, **found)


def record_reservation(host: LabHost, moment: str) -> None:
    """Put the reservation of the first disk of `host` on the timeline (kind `reservation`)."""
    session = host.initiator.sessions()[0]
    asked = (READ_KEYS, READ_RESERVATION)
    found = reservation(*_must(host, [(session.device, one) for one in asked]))
    found |= {"target": session.target, "lun": session.disks[0].lun}
    host.lab.timeline.add(host.name, "reservation", moment=moment, **found)


def try_to_write(host: LabHost, moment: str) -> None:
    """Let `host` write to the last block of its first disk. Put the `status` on the timeline (kind
    `attempt`): "ok", "conflict", or "sg_raw N" for another exit status."""
    disk = host.initiator.sessions()[0].disks[0]
    ((status, _),) = send(host, [(disk.device, write_block(disk.size_bytes // 512 - 1))])
    told = {GOOD: "ok", CONFLICT: "conflict"}.get(status, f"sg_raw {status}")
    host.lab.timeline.add(host.name, "attempt", moment=moment, lun=disk.lun, status=told)


def reserve(host: LabHost, key: int, *, aptpl: bool = False) -> None:
    """Register `key` for `host` at its first disk and reserve the disk: others may only read.

    `aptpl`: both must survive a power cut. LabError if the disk refuses.
    """
    device = host.initiator.sessions()[0].device
    steps = (reserve_out(_REGISTER, 0, key, aptpl=aptpl), reserve_out(_RESERVE, key))
    _must(host, [(device, step) for step in steps])
