"""Mutated PDUs and logins through a relay: `python -m tests.fuzz_relay --count 100000`.

Both sides of the relay misbehave: initiators with mutated logins and PDUs, a target with mutated
answers, while orders (swallow, delay, corrupt, messages) come and go. One connection beside them
behaves, and every byte of it is checked. Status 1 if the relay fails, hangs, keeps a connection,
grows by more than 8 MiB, or disturbs that connection. The same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import json
import random
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from targets.pdu import NO_TAG, Op, Pdu, encode_keys
from targets.relay.link import Link
from targets.relay.messages import login_response
from targets.relay.service import Config, Relay

WORKERS, CASE_SECONDS, GROWTH_KIB = 8, 10.0, 8 * 1024
WARM_UP = 15_000
BYSTANDER = "iqn.2024-01.lab:bystander"
NUMBERS = [0, 1, 47, 48, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]
ORDERS: list[dict[str, Any]] = [
    {"command": "swallow", "count": 5},
    {"command": "swallow", "direction": "to-target", "opcode": "nop-out", "count": 5},
    {"command": "delay", "seconds": 0.001, "count": 5},
    {"command": "delay", "seconds": 0.001, "direction": "to-target", "count": 5},
    {"command": "corrupt", "what": "header", "offset": 5, "count": 5},
    {"command": "corrupt", "what": "header-digest", "count": 5},
    {"command": "corrupt", "what": "data", "fix_digest": True, "count": 5},
    {"command": "corrupt", "what": "data-digest", "direction": "to-target", "count": 5},
    {"command": "close", "how": "reset"},
    {"command": "close", "direction": "to-target"},
    {"command": "answer-login", "target_address": "{local}", "count": 3},
    {"command": "answer-login", "status": "0x0000"},
    {"command": "async", "event": 1, "grace_s": 0.01},
    {"command": "async", "event": 3},
    {"command": "async", "event": 4},
    {"command": "clear"},
    {"command": "status"},
]


def login(chance: random.Random, name: str) -> Pdu:
    digest = chance.choice(["None", "CRC32C", "CRC32C,None"])
    keys = [("InitiatorName", name), ("TargetName", "iqn.t"), ("SessionType", "Normal")]
    keys += [("HeaderDigest", digest), ("DataDigest", digest)]
    keys += [("X-" + "k" * chance.randrange(20), "v" * chance.choice([0, 9, 3000]))]
    flags = chance.choice([0x87] * 12 + [0x81, 0x00, 0x40])
    bhs = struct.pack(">BB6xIHHIHxxII16x", 0x43, flags, 5, 1, 0, 7, 0, 1, 0)
    return Pdu(bhs, encode_keys(keys))


def any_pdu(chance: random.Random, base: int) -> Pdu:
    ops = [int(op) for op in Op if (op >= 0x20) == (base >= 0x20)]
    words = [chance.choice([*NUMBERS, chance.getrandbits(32)]) for _ in range(10)]
    head = bytes([chance.choice(ops), chance.randrange(256), 0, 0]) + bytes(4)
    if chance.random() < 0.3:
        words[2] = NO_TAG
    ahs = b""
    if chance.random() < 0.1:  # an extended CDB: RFC 7143, 11.2.2.3
        rest = chance.choice([17, 201])
        ahs = struct.pack(">HB", rest, 1) + bytes(rest)
    data = bytes(chance.choice([0, 0, 0, 1, 3, 48, 512, 9000]))
    return Pdu(head + struct.pack(">10I", *words), data, ahs)


def mutate(chance: random.Random, raw: bytes) -> bytes:
    """`raw` with up to three faults."""
    out = bytearray(raw)
    for _ in range(chance.choice([0, 1, 1, 2, 3])):
        kind, at = chance.randrange(7), chance.randrange(len(out) or 1)
        if not out:
            break
        if kind == 0:
            out[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            out[at % min(48, len(out))] = chance.randrange(256)
        elif kind == 2 and len(out) >= 8:
            out[4:8] = chance.choice([0, 1, 47, 0xFFFF, 0xFFFFFF, 0xFF000000, 0xFFFFFFFF]).to_bytes(
                4, "big"
            )
        elif kind == 3:
            del out[at:]
        elif kind == 4:
            out[at:at] = chance.randbytes(chance.randrange(1, 60))
        elif kind == 5:
            out[at : at + chance.randrange(60)] = b""
        else:
            out += out[: chance.randrange(len(out) + 1)]
    return bytes(out)


async def give(chance: random.Random, writer: asyncio.StreamWriter, parts: list[bytes]) -> None:
    """Write `parts` in pieces that do not end where they end."""
    raw = b"".join(parts)
    while raw:
        step = chance.choice([1, 30, 48, 500, 5000, 100000])
        writer.write(raw[:step])
        raw = raw[step:]
        await writer.drain()
    if chance.random() < 0.1:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def drain(reader: asyncio.StreamReader, seconds: float) -> None:
    with contextlib.suppress(OSError):
        async with asyncio.timeout(seconds):
            while await reader.read(1 << 16):
                pass


class Fuzz:
    """One run: its counts, its target, its initiators, and what they saw."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self.pdus = self.connections = self.accepted = self.rounds = 0
        self.slowest = 0.0
        self.events: Counter[str] = Counter()
        self.errors: list[str] = []

    def report(self, event: dict[str, Any]) -> None:
        self.events[event["what"]] += 1
        if event["what"] == "internal-error":
            self.errors.append(event["reason"])

    async def target(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        chance = random.Random(f"{self.seed} target {self.accepted}")
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            first = await reader.readexactly(48)
            rest = await reader.readexactly(int.from_bytes(first[5:8], "big") + 3 & ~3)
            answer = login_response(Pdu(first), 0, stat_sn=chance.choice(NUMBERS))
            digest = chance.choice(["None", "CRC32C"])
            if BYSTANDER.encode() in rest:
                writer.write(answer.encode())
                while more := await reader.read(1 << 16):
                    writer.write(more)
            else:
                keys = [("HeaderDigest", digest), ("DataDigest", digest)]
                raw = Pdu(answer.bhs, encode_keys(keys)).encode()
                parts = [mutate(chance, raw) if chance.random() < 0.2 else raw]
                digests = digest == "CRC32C"
                for _ in range(chance.randrange(8)):
                    raw = any_pdu(chance, 0x20).encode(digests, digests)
                    parts.append(mutate(chance, raw) if chance.random() < 0.7 else raw)
                self.pdus += len(parts)
                await give(chance, writer, parts)
                await drain(reader, CASE_SECONDS)
        writer.close()

    async def initiator(self, chance: random.Random, address: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*address)
        first = login(chance, "iqn.fuzz").encode()
        parts = [mutate(chance, first) if chance.random() < 0.2 else first]
        later = []
        digests = chance.random() < 0.5
        for _ in range(chance.randrange(16)):
            pdu = login(chance, "iqn.fuzz") if chance.random() < 0.1 else any_pdu(chance, 0)
            raw = pdu.encode(digests, digests)
            later.append(mutate(chance, raw) if chance.random() < 0.7 else raw)
        self.pdus += 1 + len(later)
        with contextlib.suppress(OSError):
            await give(chance, writer, parts)
            if chance.random() < 0.85:  # else without waiting for the answer
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await reader.read(1 << 16)
            await give(chance, writer, later)
            if chance.random() < 0.5:
                writer.write_eof()
                await drain(reader, 0.02)
        writer.close()

    async def worker(self, number: int, relay: Relay, address: tuple[str, int]) -> None:
        chance = random.Random(f"{self.seed} {number}")
        while self.pdus < self.count:
            self.connections += 1
            if chance.random() < 0.2:
                order = {**chance.choice(ORDERS), "select": {"initiator": "iqn.fuzz"}}
                relay.control.line(json.dumps(order))
            async with asyncio.timeout(CASE_SECONDS):
                await self.initiator(chance, address)

    async def bystander(self, address: tuple[str, int], done: asyncio.Event) -> None:
        """Exchange whole PDUs with the target, which returns every byte; nothing may change."""
        chance = random.Random(self.seed)
        reader, writer = await asyncio.open_connection(*address)
        bhs = struct.pack(">BB6xIHHIHxxII16x", 0x43, 0x87, 9, 1, 0, 7, 0, 1, 0)
        writer.write(Pdu(bhs, encode_keys({"InitiatorName": BYSTANDER})).encode())
        await reader.readexactly(48)
        while not done.is_set():
            began = time.monotonic()
            raw = any_pdu(chance, 0).encode()
            writer.write(raw)
            async with asyncio.timeout(CASE_SECONDS):
                if await reader.readexactly(len(raw)) != raw:
                    self.errors.append("the connection beside got other bytes than were sent")
            self.rounds += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            await asyncio.sleep(0.005)
        writer.close()

    async def run(self) -> dict[str, Any]:
        began = time.monotonic()
        server = await asyncio.start_server(self.target, "127.0.0.1", 0)
        backend = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        port = {"name": "p1", "listen": ["127.0.0.1:0"], "backend": backend}
        config = {"ports": [port], "limits": {"login_timeout_s": 1.0}}
        relay = Relay(Config.read(config), self.report)
        host, _, number = relay.open()[0][1].rpartition(":")
        address, done = (host, int(number)), asyncio.Event()
        beside = asyncio.create_task(self.bystander(address, done))
        # First until the heap has seen the most connections at once that there will be.
        whole, self.count = self.count + WARM_UP, WARM_UP
        await self._all(lambda i: self.worker(i, relay, address))
        await self._settle(relay)
        before = rss_kib()
        self.count = whole
        await self._all(lambda i: self.worker(WORKERS + i, relay, address))
        await self._settle(relay)
        after = rss_kib()
        done.set()
        await beside
        relay.close()
        server.close()
        await asyncio.sleep(0.05)  # the target's ends notice
        if after - before > GROWTH_KIB:
            self.errors.append(f"memory grew by {after - before} KiB")
        return {
            "pdus": self.pdus,
            "connections": self.connections,
            "seconds": round(time.monotonic() - began, 1),
            "rss_before_kib": before,
            "rss_after_kib": after,
            "beside_rounds": self.rounds,
            "beside_slowest_ms": round(self.slowest * 1000, 1),
            "events": dict(self.events),
            "errors": self.errors[:10],
        }

    async def _all(self, work: Callable[[int], Awaitable[None]]) -> None:
        await asyncio.gather(*(work(i) for i in range(WORKERS)))

    async def _settle(self, relay: Relay) -> None:
        """Every connection but the one beside must come to its end by itself."""
        deadline = time.monotonic() + CASE_SECONDS
        while len(relay.links) > 1 and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        if len(relay.links) != 1:
            self.errors.append(f"{len(relay.links) - 1} connections were left over")
        gc.collect()
        kept = sum(isinstance(thing, Link) for thing in gc.get_objects())
        if kept != len(relay.links):
            self.errors.append(f"{kept} connections are kept in memory")


def rss_kib() -> int:
    """What is in use: the garbage is collected and the allocator's free pages are returned."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="mutated PDUs, both ways")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    result = asyncio.run(Fuzz(given.count, given.seed).run())
    print(json.dumps(result))
    return 1 if result["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
