"""The relay between a scripted initiator and target: transparency, robustness, commands."""

from __future__ import annotations

import asyncio
import random
import socket
import struct

import pytest
from relay_peers import (
    BOTH,
    Peer,
    extended_cdb,
    from_initiator,
    from_target,
    in_a_loop,
    login_request,
    rig,
)

from lab.portal import Portal
from targets.pdu import Op, Pdu
from targets.relay.service import Config


@BOTH
@in_a_loop
async def test_every_byte_goes_through(digests):
    chance = random.Random(digests)
    async with rig() as it:
        it.digests = digests
        host, target = await it.pair()
        assert it.found("full-feature")[0]["header_digest"] == digests.replace("None", "none")
        for sender, receiver, first in ((host, target, 0), (target, host, 0x20)):
            raw = b""
            for _ in range(60):
                bhs = bytes([first + chance.randrange(0x20)]) + chance.randbytes(47)
                ahs = extended_cdb(chance.randbytes(chance.choice([0, 0, 16, 200])))
                data = chance.randbytes(chance.choice([0, 1, 5, 511, 8192, 70000]))
                raw += Pdu(bhs, data, ahs).encode(sender.header, sender.data)

            async def pieces(raw=raw, sender=sender):
                at = 0
                while at < len(raw):
                    step = chance.choice([1, 7, 47, 48, 49, 1000, 60000, 300000])
                    await sender.raw(raw[at : at + step])
                    at += step
                    await asyncio.sleep(0)

            task = asyncio.create_task(pieces())
            got = await receiver.reader.readexactly(len(raw))
            await task
            assert got == raw


@in_a_loop
async def test_a_half_close_and_a_cut_off_header_are_passed_on():
    async with rig() as it:
        host, target = await it.pair()
        await host.raw(b"\x01\x80" + bytes(20))
        host.writer.write_eof()
        assert await target.rest() == b"\x01\x80" + bytes(20)
        answer = await target.send(from_target(Op.SCSI_RESPONSE, 11, b"late"))
        target.writer.close()
        assert await host.rest() == answer
        assert (await it.event("closed"))["reason"] == "ended"
        assert not it.relay.links


@in_a_loop
async def test_a_reset_is_passed_on():
    async with rig() as it:
        host, target = await it.pair()
        sock = target.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        target.writer.transport.abort()
        with pytest.raises(ConnectionResetError):
            await host.rest()


@in_a_loop
async def test_a_slow_receiver_slows_the_sender_and_costs_no_memory():
    async with rig() as it:
        host, target = await it.pair()
        blob = Pdu(from_target(Op.DATA_IN, 0, flags=0).bhs, bytes(1 << 20)).encode()
        link = it.relay.links[1]

        async def flood():
            for _ in range(200):
                await target.raw(blob)

        task = asyncio.create_task(flood())
        await asyncio.sleep(0.5)
        assert not task.done()
        assert link.down.bytes < 60 << 20  # what the kernel's buffers hold, and one of ours
        before = link.down.bytes
        await asyncio.sleep(0.1)
        assert link.down.bytes == before
        for _ in range(200):
            assert await host.reader.readexactly(len(blob)) == blob
        await task


BAD_LOGINS = {
    "not a login": from_initiator(Op.SCSI_COMMAND, 0).encode(),
    "a huge login": login_request({}).encode()[:5] + b"\xff\xff\xff" + bytes(40),
    "text without end": b"".join(
        login_request({"X": "y" * 8000}, flags=0x40).encode() for _ in range(10)
    ),
    "nonsense": bytes(range(256)) * 10,
}


@pytest.mark.parametrize("bad", BAD_LOGINS)
@in_a_loop
async def test_a_bad_login_costs_its_own_connection_only(bad):
    async with rig() as it:
        host, target = await it.pair()
        worse = await it.connect()
        await worse.raw(BAD_LOGINS[bad])
        with pytest.raises(ConnectionResetError):
            await worse.rest()
        assert (await it.event("closed"))["reason"] == "bad-pdu"
        await target.send(from_target(Op.SCSI_RESPONSE, 11, b"still here"))
        assert (await host.read()).data == b"still here"
        assert list(it.relay.links) == [1]


@in_a_loop
async def test_a_login_in_pieces_and_with_continued_text():
    async with rig() as it:
        it.digests = "CRC32C"
        host = await it.connect()
        keys = {"InitiatorName": "iqn.h", "TargetName": "iqn.t", "HeaderDigest": "CRC32C,None"}
        raw = login_request(keys | {"DataDigest": "CRC32C"}).encode()
        for i in range(0, len(raw), 7):
            await host.raw(raw[i : i + 7])
            await asyncio.sleep(0.001)
        await host.read()
        assert (await it.event("full-feature"))["header_digest"] == "CRC32C"
        assert it.found("login")[0]["initiator"] == "iqn.h"


@in_a_loop
async def test_silence_and_an_absent_backend_end_a_connection():
    async with rig(login_timeout_s=0.1) as it:
        host = await it.connect()
        with pytest.raises(ConnectionResetError):
            await host.rest()
        assert it.found("closed")[0]["reason"] == "login-timeout"
    async with rig() as it:
        it.relay._config.ports[0].__dict__["backend"] = Portal("127.0.0.1", 1)
        host = await it.connect()
        await host.send(login_request({"InitiatorName": "iqn.h"}))
        with pytest.raises(ConnectionResetError):
            await host.rest()
        assert it.found("closed")[0]["reason"] == "backend-unreachable"


@in_a_loop
async def test_no_more_connections_than_allowed():
    async with rig(connections=1) as it:
        host, _ = await it.pair()
        more: Peer = await it.connect()
        assert await more.rest() == b""
        assert await host.quiet()
        assert it.found("accept-failed")


REFUSED = {
    "nonsense": "Expecting value",
    "[1]": "a JSON object",
    '{"command": "explode"}': "'explode' is not one of",
    '{"command": "swallow", "opcode": "nop"}': "nop-in",
    '{"command": "swallow", "opcode": "nop-out"}': "opcode: 'nop-out'",
    '{"command": "swallow", "direction": "up"}': "to-target",
    '{"command": "swallow", "count": 0}': "count: 0",
    '{"command": "delay", "seconds": "long"}': "seconds: 'long'",
    '{"command": "corrupt", "what": "all"}': "header-digest",
    '{"command": "async", "event": 256}': "event: 256",
    '{"command": "async", "parameter3": true}': "parameter3: True",
    '{"command": "async", "select": {"host": "h1"}}': "select:",
    '{"command": "async", "select": {"connection": "1"}}': "select.connection",
    '{"command": "answer-login", "status": "no"}': "status: 'no'",
    '{"command": "answer-login", "target_address": 5}': "target_address: 5",
    '{"command": "close", "how": "gently"}': "fin, reset",
    "[" * 60000: "",
}


@pytest.mark.parametrize("line", REFUSED, ids=range(len(REFUSED)))
@in_a_loop
async def test_a_wrong_command_is_refused_with_the_reason(line):
    async with rig() as it:
        it.relay.control.line(line)
        assert REFUSED[line] in it.found("refused")[0]["reason"]
        assert not it.relay.rules


@pytest.mark.parametrize(
    "raw",
    [{}, {"ports": [{"name": "p"}]}, {"ports": [], "limits": {"speed": 1}}]
    + [{"ports": [{"name": "p", "listen": [x], "backend": "h:1"}]} for x in ("fd00::1:1", "x", 5)],
)
def test_a_wrong_configuration_is_a_value_error(raw):
    with pytest.raises(ValueError, match=r"configuration|not an IP address"):
        Config.read(raw)


@in_a_loop
async def test_the_backend_sees_the_source_address_that_was_asked_for():
    async with rig(source="127.0.0.2") as it:
        _, target = await it.pair()
        assert target.writer.get_extra_info("peername")[0] == "127.0.0.2"
