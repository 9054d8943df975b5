"""Swaps the cells of a region that several hosts share, by COMPARE AND WRITE; runs in a guest.

A cell is one logical block. Each step reads a cell and replaces what it holds, if it still holds
that: so one host only can be the one that replaced a value. Arguments: device, number of the first
logical block, number of cells, number of this host (1 to 63), seed. Commands on standard input:
"stop" ends the swapping, "read" reads all cells; end of input ends the program. Output, one JSON
object per line: {"swapping": "begin"|"end", "t"}, {"swaps": [[op, cell, found, value, start, end,
status], ...]} about ten times a second, {"cells": n} after the last of a read of all. A swap with
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
"""Magic, value, cell, CRC-32 of value, cell and the rest."""
MAGIC = b"LABCELL1"
HOSTS = 64
BLANK = 0
"""The value of a cell that nobody has written."""
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


def make(seed: int, value: int, cell: int) -> bytes:
    """What a cell with this value holds."""
    body = (struct.pack("<QQQ", seed, value, cell) * SIZE)[: SIZE - HEADER.size]
    return HEADER.pack(MAGIC, value, cell, _check(value, cell, body)) + body


def _check(value: int, cell: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(struct.pack("<QQ", value, cell)))


def parse(data: bytes, cell: int) -> int | str:
    """The value of a cell, or "torn" or "misplaced"."""
    if not any(data):
        return BLANK
    magic, value, of, check = HEADER.unpack_from(data)
    if magic != MAGIC or check != _check(value, of, data[HEADER.size :]):
        return "torn"
    return value if of == cell else "misplaced"


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
    """One host's swaps of the cells."""

    def __init__(self, disk: Disk, first: int, cells: int, host: int, seed: int) -> None:
        self.disk, self.first, self.cells = disk, first, cells
        self.host, self.seed, self.count = host, seed, 0
        self.report: list[list[Any]] = []

    def until_told(self) -> None:
        """Swap until a command comes in."""
        choose, reported = random.Random(self.seed * HOSTS + self.host).randrange, time.time()
        say({"swapping": "begin", "t": time.time()})
        while True:
            self.step(choose(self.cells))
            now = time.time()
            if now - reported > REPORT_SECONDS:
                self.flush()
                reported = now
                if select.select([0], [], [], 0)[0]:
                    break
        self.flush()
        say({"swapping": "end", "t": time.time()})

    def step(self, cell: int) -> None:
        """Read a cell, and replace its value."""
        status, found, data = self.look(cell)
        if status != "ok" or not isinstance(found, int):
            time.sleep(0.05)
            return
        self.count += 1
        value = self.count * HOSTS + self.host
        start = time.time()
        status = self.disk.swap(self.first + cell, data, make(self.seed, value, cell))
        self.report.append(["swap", cell, found, value, start, time.time(), status])

    def look(self, cell: int) -> tuple[str, int | str, bytes]:
        """Read a cell: the status, its value, and its content."""
        start = time.time()
        status, data = self.disk.read(self.first + cell)
        found = parse(data, cell)
        if status == "ok" and isinstance(found, int) and found:
            found = found if data == make(self.seed, found, cell) else "torn"
        self.report.append(["read", cell, found, found, start, time.time(), status])
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
            for cell in range(swapper.cells):
                swapper.look(cell)
            swapper.flush()
            say({"cells": swapper.cells})


if __name__ == "__main__":
    main()
