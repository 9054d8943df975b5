"""Writes numbered, checksummed blocks to a disk and later reads them back; runs in a guest.

Arguments: device, number of blocks, seed, and options. "dsync": acknowledge a write only when it
outlasts a power cut of the disk (O_DSYNC: the kernel writes through, or flushes). "first=N": the
first block to use (0). "known": write nothing, but take over the writes of an earlier run, which
the first line of standard input lists (see Writer.recall). Commands on standard input, one per
line: "stop" ends the writing, "verify" reads back; end of input ends the program. Output, one JSON
object per line: {"load": "begin"|"end", "t"}, {"io": [[op, seq, block, start, end, status], ...]}
about ten times a second, {"verified": {...}}. Times are Unix seconds. Standard library only.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import random
import select
import struct
import sys
import time
import zlib
from typing import Any

BLOCK = 4096
HEADER = struct.Struct("<8sQQI")
"""Magic, sequence number, block number, CRC-32 of both numbers and the body."""
MAGIC = b"LABBLOCK"
REPORT_SECONDS = 0.1


def say(message: dict[str, Any]) -> None:
    """Print one JSON line at once."""
    sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def make(seed: int, sequence: int, block: int) -> bytes:
    """The content of write number `sequence`, which goes to block number `block`."""
    # Each 512-byte sector differs from those of other writes, else a torn block could pass.
    pattern = struct.pack("<QQQ", seed, sequence, block) * (BLOCK // 24 + 1)
    body = pattern[: BLOCK - HEADER.size]
    return HEADER.pack(MAGIC, sequence, block, _check(sequence, block, body)) + body


def _check(sequence: int, block: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(struct.pack("<QQ", sequence, block)))


def parse(data: bytes) -> tuple[int, int] | str:
    """Sequence and block number of a whole block, "torn", or "blank"."""
    magic, sequence, block, check = HEADER.unpack_from(data)
    if magic != MAGIC:
        return "blank" if not any(data) else "torn"
    if _check(sequence, block, data[HEADER.size :]) != check:
        return "torn"
    return sequence, block


def _told(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error.errno))


class Writer:
    """One disk, the writes to it, and which of them were acknowledged.

    `unsure` has, for each block, the writes that failed after its last acknowledged one; they may
    be on the disk or not. Blocks are numbered from the disk's start; `first` is the first used.
    """

    def __init__(self, device: str, blocks: int, seed: int, flags: int = 0) -> None:
        self._open(device, flags)
        self.blocks, self.seed, self.first = blocks, seed, 0
        self.buffer = mmap.mmap(-1, BLOCK)  # direct I/O wants an aligned buffer
        self.acked: dict[int, int] = {}
        self.unsure: dict[int, list[int]] = {}
        self.newest: int | None = None
        self.report: list[list[Any]] = []

    def _open(self, device: str, flags: int) -> None:
        self.fd = os.open(device, os.O_RDWR | os.O_DIRECT | flags)

    def _transfer(self, op: str, block: int) -> int:
        """Write or read the buffer past every cache; returns the bytes done; raises OSError."""
        work = os.pwritev if op == "write" else os.preadv
        return work(self.fd, [self.buffer], block * BLOCK)

    def write_until_told(self) -> None:
        """Write until a command comes in."""
        choose = random.Random(self.seed).randrange
        sequence, reported = 0, time.time()
        say({"load": "begin", "t": time.time()})
        while True:
            sequence += 1
            block = self.first + choose(self.blocks)
            self.buffer[:] = make(self.seed, sequence, block)
            status = self._operation("write", sequence, block)
            if status == "ok":
                self.acked[block] = sequence
                self.unsure.pop(block, None)
            else:
                self.unsure.setdefault(block, []).append(sequence)
                time.sleep(0.01)  # a dead disk fails every write at once
            now = time.time()
            if now - reported > REPORT_SECONDS:
                self._flush()
                reported = now
                if select.select([0], [], [], 0)[0]:
                    break
        self._flush()
        say({"load": "end", "t": time.time()})

    def _operation(self, op: str, sequence: int, block: int) -> str:
        start = time.time()
        try:
            status = "ok" if self._transfer(op, block) == BLOCK else "short"
        except OSError as failed:
            status = _told(failed)
        self.report.append([op, sequence, block, start, time.time(), status])
        return status

    def _flush(self) -> None:
        if self.report:
            say({"io": self.report})
            self.report = []

    def recall(self, acked: dict[str, int], newest: int) -> None:
        """Take over from a run of the same seed whose host lost its power.

        It reported the writes `acked` (block number to sequence number) as acknowledged. Writes
        after `newest` may be acknowledged too: it reported only ten times a second.
        """
        self.acked = {int(block): sequence for block, sequence in acked.items()}
        self.newest = newest

    def verify(self) -> None:
        """Read every acknowledged block and report which are lost or torn."""
        lost: list[dict[str, Any]] = []
        torn: list[int] = []
        for block, expected in sorted(self.acked.items()):
            status = self._operation("read", 0, block)
            found = parse(self.buffer[:]) if status == "ok" else status
            if found == "torn":
                torn.append(block)
            elif isinstance(found, str):
                lost.append({"block": block, "expected": expected, "found": found})
            elif found[1] != block or not self._expected(block, found[0]):
                lost.append({"block": block, "expected": expected, "found": found[0]})
            elif self.buffer[:] != make(self.seed, *found):
                lost.append({"block": block, "expected": expected, "found": "another writer's"})
        self._flush()
        say({"verified": {"blocks": len(self.acked), "lost": lost, "torn": torn}})

    def _expected(self, block: int, sequence: int) -> bool:
        if self.newest is not None and sequence > self.newest:
            return True
        return sequence in (self.acked[block], *self.unsure.get(block, ()))


def main(kind: type[Writer] = Writer) -> None:
    """Write, then obey the commands."""
    options = sys.argv[4:]
    flags = os.O_DSYNC if "dsync" in options else 0
    writer = kind(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), flags)
    writer.first = next((int(o[6:]) for o in options if o.startswith("first=")), 0)
    if "known" in options:
        writer.recall(**json.loads(sys.stdin.readline()))
    else:
        writer.write_until_told()
    for line in sys.stdin:
        if line.strip() == "verify":
            writer.verify()


if __name__ == "__main__":
    main()
