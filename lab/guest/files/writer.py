"""Writes numbered, checksummed blocks to a disk and reads each back; runs in a guest.

Before a place is written again it is read, so that every acknowledged write is read back once.
Arguments: device, number of blocks, seed, and options. "dsync": acknowledge a write only when it
outlasts a power cut of the disk (O_DSYNC: the kernel writes through, or flushes). "first=N": the
first block to use (0). "size=N": blocks of one operation (1). "depth=N": operations in flight (1).
"rate=N": at most so many writes a second (0: no limit). "known": write nothing, but take over the
writes of an earlier run, which the first line of standard input lists (see Writer.recall). Commands
on standard input, one per line: "stop" ends the writing, "verify" reads back; end of input ends the
program. Output, one JSON object per line: {"load": "begin"|"end", "t"}, {"io": [[op, seq, block,
start, end, status], ...]} about ten times a second, {"verified": {...}}. The `seq` of a read is
what was found: a sequence number, or, where its blocks differ or are damaged, a list of them with
"blank", "torn", "misplaced" or "another writer's" between. Times are Unix seconds. Standard library
only.
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
import threading
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


def held(data: bytes, block: int, seed: int) -> int | str:
    """What `block` holds by its content `data`: the number of its write, or a word."""
    found = parse(data)
    if isinstance(found, str):
        return found
    if found[1] != block:
        return "misplaced"
    return found[0] if data == make(seed, *found) else "another writer's"


def _told(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error.errno))


Found = int | str
"""What a block holds: the sequence number of its write, or a word."""


class Writer:
    """One disk, the writes to it, and which of them were acknowledged.

    Blocks are numbered from the disk's start; `first` is the first used. A place is `size` blocks,
    by the number of its first one. `unsure` has, for each place, the writes that failed after its
    last acknowledged one; they may be on the disk or not.
    """

    def __init__(
        self, device: str, blocks: int, seed: int, flags: int = 0, *,
        first: int = 0, size: int = 1, depth: int = 1, rate: float = 0.0,
    ) -> None:  # fmt: skip
        self._open(device, flags)
        self.seed, self.first, self.size, self.depth, self.rate = seed, first, size, depth, rate
        # In one fixed order: a place is written again only after all others.
        self.places = list(range(first, first + blocks - size + 1, size))
        random.Random(seed).shuffle(self.places)
        self.acked: dict[int, int] = {}
        self.unsure: dict[int, list[int]] = {}
        self.newest: int | None = None
        self.report: list[list[Any]] = []
        self._sequence, self._busy, self._over = 0, set[int](), False
        self._lock = threading.Lock()

    def _open(self, device: str, flags: int) -> None:
        self.fd = os.open(device, os.O_RDWR | os.O_DIRECT | flags)

    def _transfer(self, op: str, block: int, buffer: mmap.mmap) -> int:
        """Write or read `buffer` past every cache; returns the bytes done; raises OSError."""
        work = os.pwritev if op == "write" else os.preadv
        return work(self.fd, [buffer], block * BLOCK)

    def _new_buffer(self) -> mmap.mmap:
        return mmap.mmap(-1, BLOCK * self.size)  # direct I/O wants an aligned buffer

    def write_until_told(self) -> None:
        """Write until a command comes in."""
        self._began = time.time()
        say({"load": "begin", "t": self._began})
        others = [threading.Thread(target=self._work) for _ in range(self.depth - 1)]
        for one in others:
            one.start()
        self._work(main=True)
        for one in others:
            one.join()
        self._flush()
        say({"load": "end", "t": time.time()})

    def _work(self, *, main: bool = False) -> None:
        """Write one after the other. The main thread also reports, and minds the commands."""
        buffer, reported = self._new_buffer(), time.time()
        while not self._over:
            place, sequence = self._next()
            try:
                self._write(buffer, place, sequence)
            finally:
                with self._lock:
                    self._busy.discard(place)
            now = time.time()
            if main and now - reported > REPORT_SECONDS:
                self._flush()
                reported = now
                self._over = bool(select.select([0], [], [], 0)[0])

    def _next(self) -> tuple[int, int]:
        """The next place that nobody writes to, and the number of its write, when it is due."""
        with self._lock:
            while True:
                self._sequence += 1
                place = self.places[self._sequence % len(self.places)]
                if place not in self._busy:
                    break
            self._busy.add(place)
            sequence = self._sequence
        if self.rate:
            time.sleep(max(0.0, self._began + sequence / self.rate - time.time()))
        return place, sequence

    def _write(self, buffer: mmap.mmap, place: int, sequence: int) -> None:
        if place in self.acked and self._read(buffer, place)[0] != "ok":
            time.sleep(0.01)  # what is not read back must not be overwritten
            return
        for at in range(self.size):
            made = make(self.seed, sequence, place + at)
            buffer[at * BLOCK : (at + 1) * BLOCK] = made
        start = time.time()
        status, end = self._operation("write", place, buffer)
        self.report.append(["write", sequence, place, start, end, status])
        if status == "ok":
            self.acked[place] = sequence
            self.unsure.pop(place, None)
        else:
            self.unsure.setdefault(place, []).append(sequence)
            time.sleep(0.01)  # a dead disk fails every write at once

    def _read(self, buffer: mmap.mmap, place: int) -> tuple[str, list[Found]]:
        """The status, and what the blocks of the place hold."""
        start = time.time()
        status, end = self._operation("read", place, buffer)
        found = self._found(buffer, place) if status == "ok" else []
        same = len(set(found)) == 1 and isinstance(found[0], int)
        told = 0 if not found else found[0] if same else found
        self.report.append(["read", told, place, start, end, status])
        return status, found

    def _found(self, buffer: mmap.mmap, place: int) -> list[Found]:
        return [
            held(buffer[at * BLOCK : (at + 1) * BLOCK], place + at, self.seed)
            for at in range(self.size)
        ]

    def _operation(self, op: str, place: int, buffer: mmap.mmap) -> tuple[str, float]:
        try:
            whole = self._transfer(op, place, buffer) == len(buffer)
            status = "ok" if whole else "short"
        except OSError as failed:
            status = _told(failed)
        return status, time.time()

    def _flush(self) -> None:
        report, self.report = self.report, []
        if report:
            say({"io": report})

    def recall(self, acked: dict[str, int], newest: int) -> None:
        """Take over from a run of the same seed whose host lost its power.

        It reported the writes `acked` (place to sequence number) as acknowledged. Writes after
        `newest` may be acknowledged too, and of several in flight also earlier ones: it reported
        only ten times a second.
        """
        self.acked = {int(place): sequence for place, sequence in acked.items()}
        self.newest = newest

    def verify(self) -> None:
        """Read every acknowledged block and report which are lost or torn."""
        lost: list[dict[str, Any]] = []
        torn: list[int] = []
        buffer = self._new_buffer()
        for place, expected in sorted(self.acked.items()):
            status, found = self._read(buffer, place)
            for at, held in enumerate(found or [status]):
                if held == "torn":
                    torn.append(place + at)
                elif not self._expected(place, held):
                    lost.append({"block": place + at, "expected": expected, "found": held})
        self._flush()
        blocks = len(self.acked) * self.size
        say({"verified": {"blocks": blocks, "lost": lost, "torn": torn}})

    def _expected(self, place: int, held: Found) -> bool:
        if isinstance(held, int) and self.newest is not None and held > self.acked[place]:
            return True  # it had failed, or was not reported
        return held in (self.acked[place], *self.unsure.get(place, ()))


def main(kind: type[Writer] = Writer) -> None:
    """Write, then obey the commands."""
    options = dict(one.partition("=")[::2] for one in sys.argv[4:])
    writer = kind(
        sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), os.O_DSYNC if "dsync" in options else 0,
        first=int(options.get("first", 0)), size=int(options.get("size", 1)),
        depth=int(options.get("depth", 1)), rate=float(options.get("rate", 0)),
    )  # fmt: skip
    if "known" in options:
        writer.recall(**json.loads(sys.stdin.readline()))
    else:
        writer.write_until_told()
    for line in sys.stdin:
        if line.strip() == "verify":
            writer.verify()


if __name__ == "__main__":
    main()
