"""Swaps the slots of a region that several hosts share, by COMPARE AND WRITE; runs in a guest.

A slot is one logical block. Each step reads a slot and replaces what it holds, if it still holds
that: so one host only can be the one that replaced a value. Arguments: device, number of the first
logical block, number of slots, number of this host (1 to 63), seed. Commands on standard input:
"stop" ends the swapping, "read" reads all slots; end of input ends the program. Output, one JSON
object per line: {"swapping": "begin"|"end", "t"}, {"swaps": [[op, slot, found, value, start, end,
status], ...]} about ten times a second, {"slots": n} after the last of a read of all. A swap with
status "other" found another value. Times are Unix seconds. Standard library only.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import random
import select
import struct
import sys
import time
import zlib
from typing import Any

SIZE = 512
HEADER = struct.Struct("<8sQQI")
"""Magic, value, slot, CRC-32 of value, slot and the rest."""
MAGIC = b"LABSLOT1"
HOSTS = 64
BLANK = 0
"""The value of a slot that nobody has written."""
SG_IO = 0x2285  # include/scsi/sg.h
TO_DEVICE, FROM_DEVICE = -2, -3
READ_16, COMPARE_AND_WRITE = 0x88, 0x89  # SBC-3, 5.18 and 5.2
CHECK_CONDITION, UNIT_ATTENTION, MISCOMPARE = 0x02, 0x06, 0x0E
TIMEOUT_MS = 120_000
REPORT_SECONDS = 0.1


class Request(ctypes.Structure):
    """struct sg_io_hdr of include/scsi/sg.h."""

    _fields_ = [
        ("interface_id", ctypes.c_int), ("direction", ctypes.c_int), ("cdb_length", ctypes.c_ubyte),
        ("sense_room", ctypes.c_ubyte), ("pieces", ctypes.c_ushort), ("length", ctypes.c_uint),
        ("data", ctypes.c_void_p), ("cdb", ctypes.c_void_p), ("sense", ctypes.c_void_p),
        ("timeout", ctypes.c_uint), ("flags", ctypes.c_uint), ("id", ctypes.c_int),
        ("user", ctypes.c_void_p), ("status", ctypes.c_ubyte), ("masked", ctypes.c_ubyte),
        ("message", ctypes.c_ubyte), ("sensed", ctypes.c_ubyte), ("host", ctypes.c_ushort),
        ("driver", ctypes.c_ushort), ("left", ctypes.c_int), ("took", ctypes.c_uint),
        ("info", ctypes.c_uint),
    ]  # fmt: skip


def say(message: dict[str, Any]) -> None:
    """Print one JSON line at once."""
    sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def make(seed: int, value: int, slot: int) -> bytes:
    """What a slot with this value holds."""
    body = (struct.pack("<QQQ", seed, value, slot) * SIZE)[: SIZE - HEADER.size]
    return HEADER.pack(MAGIC, value, slot, _check(value, slot, body)) + body


def _check(value: int, slot: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(struct.pack("<QQ", value, slot)))


def parse(data: bytes, slot: int) -> int | str:
    """The value of a slot, or "torn" or "misplaced"."""
    if not any(data):
        return BLANK
    magic, value, of, check = HEADER.unpack_from(data)
    if magic != MAGIC or check != _check(value, of, data[HEADER.size :]):
        return "torn"
    return value if of == slot else "misplaced"


class Disk:
    """SCSI commands to `device`, past the kernel's cache."""

    def __init__(self, device: str) -> None:
        self.fd = os.open(device, os.O_RDWR | os.O_NONBLOCK)

    def _ask(self, cdb: bytes, data: Any, direction: int) -> str:
        """ "ok", "other" for MISCOMPARE, or what went wrong."""
        sense = ctypes.create_string_buffer(32)
        given = ctypes.create_string_buffer(cdb, len(cdb))
        while True:
            one = Request(
                interface_id=ord("S"), direction=direction, cdb_length=len(cdb), sense_room=32,
                length=len(data), data=ctypes.addressof(data), cdb=ctypes.addressof(given),
                sense=ctypes.addressof(sense), timeout=TIMEOUT_MS,
            )  # fmt: skip
            try:
                fcntl.ioctl(self.fd, SG_IO, one)
            except OSError as failed:
                return f"errno {failed.errno}"
            if one.host or one.driver & 0x07:
                return f"host {one.host:#x} driver {one.driver:#x}"
            if one.status != CHECK_CONDITION:
                return "ok" if one.status == 0 else f"status {one.status:#x}"
            raw = sense.raw
            key = raw[1] & 0x0F if raw[0] & 0x7F >= 0x72 else raw[2] & 0x0F
            if key != UNIT_ATTENTION:  # that reports an earlier event, and the command was not done
                return "other" if key == MISCOMPARE else f"sense {key:#x}"

    def read(self, block: int) -> tuple[str, bytes]:
        """The status, and the logical block."""
        data = ctypes.create_string_buffer(SIZE)
        cdb = struct.pack(">BBQIBB", READ_16, 0, block, 1, 0, 0)
        return self._ask(cdb, data, FROM_DEVICE), data.raw

    def swap(self, block: int, held: bytes, new: bytes) -> str:
        """Write `new` if the block holds `held`; the status."""
        data = ctypes.create_string_buffer(held + new, 2 * SIZE)
        cdb = struct.pack(">BBQ3xBBB", COMPARE_AND_WRITE, 0, block, 1, 0, 0)
        return self._ask(cdb, data, TO_DEVICE)


class Swapper:
    """One host's swaps of the slots."""

    def __init__(self, disk: Disk, first: int, slots: int, host: int, seed: int) -> None:
        self.disk, self.first, self.slots = disk, first, slots
        self.host, self.seed, self.count = host, seed, 0
        self.report: list[list[Any]] = []

    def until_told(self) -> None:
        """Swap until a command comes in."""
        choose, reported = random.Random(self.seed * HOSTS + self.host).randrange, time.time()
        say({"swapping": "begin", "t": time.time()})
        while True:
            self.step(choose(self.slots))
            now = time.time()
            if now - reported > REPORT_SECONDS:
                self.flush()
                reported = now
                if select.select([0], [], [], 0)[0]:
                    break
        self.flush()
        say({"swapping": "end", "t": time.time()})

    def step(self, slot: int) -> None:
        """Read a slot, and replace its value."""
        status, found, data = self.look(slot)
        if status != "ok" or not isinstance(found, int):
            time.sleep(0.05)  # a dead disk fails every read at once
            return
        self.count += 1
        value = self.count * HOSTS + self.host
        start = time.time()
        status = self.disk.swap(self.first + slot, data, make(self.seed, value, slot))
        self.report.append(["swap", slot, found, value, start, time.time(), status])

    def look(self, slot: int) -> tuple[str, int | str, bytes]:
        """Read a slot: the status, its value, and its content."""
        start = time.time()
        status, data = self.disk.read(self.first + slot)
        found = parse(data, slot)
        if status == "ok" and isinstance(found, int) and found:
            found = found if data == make(self.seed, found, slot) else "torn"
        self.report.append(["read", slot, found, found, start, time.time(), status])
        return status, found, data

    def flush(self) -> None:
        """Report what was done."""
        if self.report:
            say({"swaps": self.report})
            self.report = []


def main() -> None:
    """Swap, then obey the commands."""
    device, *numbers = sys.argv[1:]
    swapper = Swapper(Disk(device), *map(int, numbers))
    swapper.until_told()
    for line in sys.stdin:
        if line.strip() == "read":
            for slot in range(swapper.slots):
                swapper.look(slot)
            swapper.flush()
            say({"slots": swapper.slots})


if __name__ == "__main__":
    main()
