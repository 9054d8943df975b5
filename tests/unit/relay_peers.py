"""A tiny scripted initiator and target on loopback sockets, with a relay between them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from targets.pdu import BHS, NO_TAG, Op, Pdu, decode, decode_keys, encode_keys, padded, size_of
from targets.relay.service import Config, Relay

SECONDS = 5.0
BOTH = pytest.mark.parametrize("digests", ["None", "CRC32C"])


def extended_cdb(rest: bytes) -> bytes:
    """An additional header segment with `rest` of a CDB (RFC 7143, 11.2.2.3)."""
    segment = struct.pack(">HBx", len(rest) + 1, 1) + rest
    return segment.ljust(padded(len(segment)), b"\0")


@dataclass
class Peer:
    """One end of a connection; it checks every digest that it gets."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    header: bool = False
    data: bool = False
    isid: bytes = b"\x80\0\0\0\0\1"

    async def read(self) -> Pdu:
        async with asyncio.timeout(SECONDS):
            raw = await self.reader.readexactly(BHS)
            raw += await self.reader.readexactly(sum(size_of(raw, self.header, self.data)) - BHS)
        found = decode(raw, self.header, self.data)
        assert found
        return found[0]

    async def rest(self) -> bytes:
        """All that comes until the end; ConnectionResetError if that is a reset."""
        async with asyncio.timeout(SECONDS):
            return await self.reader.read(-1)

    async def quiet(self, seconds: float = 0.05) -> bool:
        """Whether nothing comes, not even the end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.reader.readexactly(1)
            return False
        return True

    async def send(self, *pdus: Pdu) -> bytes:
        raw = b"".join(pdu.encode(self.header, self.data) for pdu in pdus)
        await self.raw(raw)
        return raw

    async def raw(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def login(self, name: str = "iqn.2024-01.lab:h1", *, offer: str = "None", **keys: str):
        """Log in; the answer. `offer` is the digests' list."""
        text = {"InitiatorName": name, "TargetName": "iqn.2024-01.lab:t", "SessionType": "Normal"}
        text |= {"HeaderDigest": offer, "DataDigest": offer} | keys
        await self.send(login_request(text, self.isid))
        answer = await self.read()
        chosen = dict(decode_keys(answer.data))
        self.header = chosen.get("HeaderDigest") == "CRC32C"
        self.data = chosen.get("DataDigest") == "CRC32C"
        return answer


def login_request(keys: dict[str, str], isid: bytes = b"\x80\0\0\0\0\1", flags: int = 0x87) -> Pdu:
    bhs = struct.pack(">BB6x6sHIHxxII16x", 0x43, flags, isid, 0, 77, 3, 100, 0)
    return Pdu(bhs, encode_keys(keys))


def from_target(
    op: int, stat_sn: int, data: bytes = b"", *, flags: int = 0x80, tag: int = 1
) -> Pdu:
    """A target's PDU; ExpCmdSN 101, MaxCmdSN 133."""
    return Pdu(struct.pack(">BB14xI4xIII12x", op, flags, tag, stat_sn, 101, 133), data)


def from_initiator(
    op: int,
    exp_stat_sn: int,
    data: bytes = b"",
    *,
    flags: int = 0x80,
    run: tuple[int, int] = (0, 0),
) -> Pdu:
    return Pdu(struct.pack(">BB14xIIII8xII", op, flags, 1, NO_TAG, 100, exp_stat_sn, *run), data)


@dataclass
class Rig:
    """A relay before a target whose `digests` and first StatSN a test can set."""

    relay: Relay
    events: list[dict[str, Any]]
    address: tuple[str, int]
    digests: str = "None"
    stat_sn: int = 10
    arrived: asyncio.Queue[Peer] = field(default_factory=asyncio.Queue)
    peers: list[Peer] = field(default_factory=list)

    def found(self, what: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["what"] == what]

    async def event(self, what: str, count: int = 1) -> dict[str, Any]:
        """The `count`th event of that name, waited for."""
        async with asyncio.timeout(SECONDS):
            while len(self.found(what)) < count:
                await asyncio.sleep(0.002)
        return self.found(what)[count - 1]

    def command(self, command: str, **details: Any) -> dict[str, Any]:
        """Carry out a command; its `done` event."""
        self.relay.control.do({"command": command, **details})
        return self.found("done")[-1]

    async def connect(self, isid: bytes = b"\x80\0\0\0\0\1") -> Peer:
        peer = Peer(*await asyncio.open_connection(*self.address), isid=isid)
        self.peers.append(peer)
        return peer

    async def pair(self, name: str = "iqn.2024-01.lab:h1", **how: Any) -> tuple[Peer, Peer]:
        """An initiator that is logged in, and the target's end of its connection."""
        isid = how.pop("isid", b"\x80\0\0\0\0\1")
        peer = await self.connect(isid)
        await peer.login(name, offer=self.digests, **how)
        async with asyncio.timeout(SECONDS):
            target = await self.arrived.get()
        return peer, target

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = Peer(reader, writer)
        self.peers.append(target)
        try:
            request = await target.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        keys = {"HeaderDigest": self.digests, "DataDigest": self.digests}
        bhs = struct.pack(
            ">BB6x8sI4xIII12x",
            Op.LOGIN_RESPONSE,
            0x87,
            request.bhs[8:14] + b"\0\1",
            request.u32(16),
            self.stat_sn,
            100,
            132,
        )
        await target.send(Pdu(bhs, encode_keys(keys)))
        target.header = target.data = self.digests == "CRC32C"
        await self.arrived.put(target)


@contextlib.asynccontextmanager
async def rig(
    *commands: dict[str, Any],
    listen: str = "127.0.0.1:0",
    source: str | None = None,
    **more: Any,
) -> AsyncIterator[Rig]:
    """A relay with `commands` from the start; `more` are limits. It must end without an error."""
    events: list[dict[str, Any]] = []
    made: Rig

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await made.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port: dict[str, Any] = {"name": "p2", "listen": [listen], "source": source}
    port["backend"] = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    config = Config.read({"ports": [port], "commands": commands, "limits": more})
    relay = Relay(config, events.append)
    host, _, number = relay.open()[0][1].rpartition(":")
    made = Rig(relay, events, (host.strip("[]"), int(number)))
    try:
        yield made
    finally:
        relay.close()
        server.close()
        for peer in made.peers:
            peer.writer.close()
    assert not made.found("internal-error")


def in_a_loop(test):
    """Run an async test within a time limit."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        async def limited():
            async with asyncio.timeout(20):
                await test(*args, **kwargs)

        asyncio.run(limited())

    run.__signature__ = inspect.signature(test)
    return run


def same(got: Pdu, sent: Pdu, **changed: int) -> None:
    """Assert that `got` is `sent` but for the numbers at the named offsets (`at24=…`)."""
    bhs = bytearray(sent.encode()[:48])
    for name, value in changed.items():
        at = int(name.removeprefix("at"))
        bhs[at : at + 4] = (value & 0xFFFFFFFF).to_bytes(4, "big")
    assert got.bhs.hex() == bhs.hex()
    assert (got.data, got.ahs) == (sent.data, sent.ahs)
