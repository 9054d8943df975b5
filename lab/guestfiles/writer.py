"""Writes numbered, checksummed blocks to a disk and later reads them back; runs in a guest.

Arguments: device, number of blocks, seed. Commands on standard input, a line each: "stop" ends the
writing, "verify" reads back, end of input ends the program. Output, a JSON object a line:
{"load": "begin"|"end", "t"}, {"io": [[op, seq, block, start, end, status], ...]} about ten times a
second, {"verified": {...}}. Times are Unix seconds. Standard library only.
"""

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

BLOCK = 4096
HEADER = struct.Struct("<8sQQI")  # magic, sequence number, block number, CRC-32 of all the rest
MAGIC = b"LABBLOCK"
REPORT_SECONDS = 0.1


def say(message):
    sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def fill(buffer, seed, sequence, block):
    # Every 512-byte sector must differ from that of any other write, or a torn block passes.
    pattern = struct.pack("<QQQ", seed, sequence, block) * (BLOCK // 24 + 1)
    body = pattern[: BLOCK - HEADER.size]
    check = zlib.crc32(body, zlib.crc32(struct.pack("<QQ", sequence, block)))
    buffer[:] = HEADER.pack(MAGIC, sequence, block, check) + body


def parse(data):
    """(sequence, block) of a whole block, "torn", or "blank"."""
    magic, sequence, block, check = HEADER.unpack_from(data)
    if magic != MAGIC:
        return "blank" if not any(data) else "torn"
    body = data[HEADER.size :]
    if zlib.crc32(body, zlib.crc32(struct.pack("<QQ", sequence, block))) != check:
        return "torn"
    return sequence, block


def told(error):
    return errno.errorcode.get(error.errno, str(error.errno))


class Writer:
    def __init__(self, device, blocks, seed):
        self.fd = os.open(device, os.O_RDWR | os.O_DIRECT)
        self.blocks, self.seed = blocks, seed
        self.buffer = mmap.mmap(-1, BLOCK)  # direct I/O wants an aligned buffer
        self.acked = {}  # block: sequence number of its last acknowledged write
        self.unsure = {}  # block: sequence numbers that failed since, and may be there or not
        self.report = []

    def write_until_told(self):
        choose = random.Random(self.seed).randrange
        sequence, reported = 0, time.time()
        say({"load": "begin", "t": time.time()})
        while True:
            sequence += 1
            block = choose(self.blocks)
            fill(self.buffer, self.seed, sequence, block)
            start = time.time()
            try:
                done = os.pwritev(self.fd, [self.buffer], block * BLOCK)
                status = "ok" if done == BLOCK else "short"
            except OSError as failed:
                status = told(failed)
            end = time.time()
            if status == "ok":
                self.acked[block] = sequence
                self.unsure.pop(block, None)
            else:
                self.unsure.setdefault(block, []).append(sequence)
            self.report.append(["write", sequence, block, start, end, status])
            if end - reported > REPORT_SECONDS:
                self.flush()
                reported = end
                if select.select([0], [], [], 0)[0]:
                    break
            if status != "ok":
                time.sleep(0.01)  # a dead disk fails at once, for ever
        self.flush()
        say({"load": "end", "t": time.time()})

    def flush(self):
        if self.report:
            say({"io": self.report})
            self.report = []

    def verify(self):
        lost, torn = [], []
        for block in sorted(self.acked):
            start = time.time()
            try:
                read = os.preadv(self.fd, [self.buffer], block * BLOCK)
                status = "ok" if read == BLOCK else "short"
            except OSError as failed:
                status = told(failed)
            self.report.append(["read", 0, block, start, time.time(), status])
            expected = self.acked[block]
            if status != "ok":
                lost.append({"block": block, "expected": expected, "found": status})
                continue
            found = parse(self.buffer[:])
            if found == "torn":
                torn.append(block)
            elif found == "blank":
                lost.append({"block": block, "expected": expected, "found": "blank"})
            elif found[1] != block or found[0] not in (expected, *self.unsure.get(block, ())):
                lost.append({"block": block, "expected": expected, "found": found[0]})
        self.flush()
        say({"verified": {"blocks": len(self.acked), "lost": lost, "torn": torn}})


def main():
    device, blocks, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    writer = Writer(device, blocks, seed)
    writer.write_until_told()
    for line in sys.stdin:
        if line.strip() == "verify":
            writer.verify()


if __name__ == "__main__":
    main()
