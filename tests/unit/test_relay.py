"""The relay between a scripted initiator and target: transparency and every injection."""

from __future__ import annotations

import asyncio
import functools
import inspect
import random
import socket
import struct

import pytest
from relay_peers import Peer, from_initiator, from_target, login_request, rig

from targets.pdu import NO_TAG, DigestError, Op, Pdu, decode_keys, encode_ahs
from targets.relay import Config

BOTH = pytest.mark.parametrize("digests", ["None", "CRC32C"])


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
                ahs = encode_ahs([(1, chance.randbytes(chance.choice([0, 0, 17, 200])))])
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


@BOTH
@pytest.mark.parametrize("start", [10, 0xFFFFFFFE])
@in_a_loop
async def test_messages_are_put_in_and_numbers_agree_on_both_sides(digests, start):
    async with rig() as it:
        it.digests, it.stat_sn = digests, start - 1
        host, target = await it.pair()
        done = it.command("async", event=4, parameter1=1, parameter2=2, parameter3=3)
        assert done["connections"] == [1]
        message = await host.read()
        assert message.opcode == Op.ASYNC
        assert message.u32(24) == start & 0xFFFFFFFF
        assert (message.u32(28), message.u32(32)) == (100, 132)
        assert message.bhs[36:44].hex() == "0400000100020003"
        assert message.u32(16) == NO_TAG
        it.command("async", event=255)
        assert (await host.read()).u32(24) == (start + 1) & 0xFFFFFFFF

        # The target's numbers, by PDU: those that take one, that show one, and that have none.
        plain = [
            from_target(Op.SCSI_RESPONSE, start, b"sense"),
            from_target(Op.TASK_RESPONSE, start + 1 & 0xFFFFFFFF),
            from_target(Op.TEXT_RESPONSE, start + 2 & 0xFFFFFFFF, b"a=b\0"),
            from_target(Op.NOP_IN, start + 3 & 0xFFFFFFFF, b"ping"),
            from_target(Op.NOP_IN, start + 4 & 0xFFFFFFFF, tag=NO_TAG),
            from_target(Op.R2T, start + 4 & 0xFFFFFFFF),
            from_target(Op.DATA_IN, start + 4 & 0xFFFFFFFF, b"12345", flags=0x81),
            from_target(Op.ASYNC, start + 5 & 0xFFFFFFFF),
            from_target(Op.REJECT, start + 6 & 0xFFFFFFFF, bytes(48)),
            from_target(Op.LOGOUT_RESPONSE, start + 7 & 0xFFFFFFFF),
        ]
        for sent in plain:
            await target.send(sent)
            same(await host.read(), sent, at24=sent.u32(24) + 2)
        for sent in (from_target(Op.DATA_IN, 0xABCDEF, b"1", flags=0), from_target(0x3C, 5)):
            await target.send(sent)
            same(await host.read(), sent)

        # The third message comes after them; its number follows the last one that was taken.
        it.command("async", event=4)
        assert (await host.read()).u32(24) == start + 8 + 2 & 0xFFFFFFFF

        # The initiator's: two messages acknowledged, the third not yet, then all three.
        everything = [Op.NOP_OUT, Op.SCSI_COMMAND, Op.TASK_REQUEST, Op.TEXT_REQUEST, Op.DATA_OUT]
        everything += [Op.LOGOUT_REQUEST, Op.SNACK, Op.LOGIN_REQUEST]
        for behind, less in ((10, 2), (11, 3)):
            for op in everything:
                ahs = encode_ahs([(1, bytes(17))]) if op == Op.SCSI_COMMAND else b""
                sent = from_initiator(op, start + behind & 0xFFFFFFFF, b"xy")
                sent = Pdu(sent.bhs, sent.data, ahs)
                await host.send(sent)
                got = await target.read()
                changed = {"at28": start + behind - less}
                bhs = sent.encode()[:48]
                same(got, Pdu(bhs, sent.data, ahs), **changed)
        assert len(it.found("async-sent")) == 3
        assert it.found("async-sent")[0]["stat_sn"] == start & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("op", "flags", "tag", "more"),
    [(Op.R2T, 0x80, 1, 0), (Op.NOP_IN, 0x80, NO_TAG, 0), (Op.DATA_IN, 0x80, 1, 0),
     (Op.NOP_IN, 0x80, 1, 1), (Op.DATA_IN, 0x81, 1, 1), (Op.SCSI_RESPONSE, 0x80, 1, 1)],
)  # fmt: skip
@in_a_loop
async def test_a_message_takes_the_number_after_the_last_that_was_taken(op, flags, tag, more):
    async with rig() as it:
        host, target = await it.pair()
        await target.send(from_target(op, 11, flags=flags, tag=tag))
        await host.read()
        it.command("async", event=4)
        assert (await host.read()).u32(24) == 11 + more


@in_a_loop
async def test_only_the_status_snack_names_status_numbers():
    async with rig() as it:
        host, target = await it.pair()
        it.command("async", event=4)
        await host.read()
        for kind, begin in ((0, 20), (1, 19), (2, 20), (3, 20)):
            sent = from_initiator(Op.SNACK, 20, flags=0x80 | kind, run=(20, 3))
            await host.send(sent)
            same(await target.read(), sent, at28=19, at40=begin)


@in_a_loop
async def test_an_acknowledgement_under_way_is_not_taken_for_the_message():
    async with rig() as it:
        host, target = await it.pair()
        it.command("async", event=4)
        await it.event("async-sent")
        for seen, meant in ((11, 11), (12, 11), (13, 12)):
            await host.send(from_initiator(Op.NOP_OUT, seen))
            assert (await target.read()).u32(28) == meant


@in_a_loop
async def test_a_message_waits_for_the_end_of_a_pdu():
    async with rig() as it:
        host, target = await it.pair()
        sent = from_target(Op.SCSI_RESPONSE, 11, bytes(range(200)))
        raw = sent.encode()
        await target.raw(raw[:150])
        assert await host.reader.readexactly(150) == raw[:150]
        it.command("async", event=4)
        assert await host.quiet()
        await target.raw(raw[150:] + from_target(Op.SCSI_RESPONSE, 12).encode())
        assert await host.reader.readexactly(len(raw) - 150) == raw[150:]
        assert [((await host.read()).opcode) for _ in range(2)] == [Op.ASYNC, Op.SCSI_RESPONSE]


@in_a_loop
async def test_no_message_before_the_full_feature_phase():
    async with rig() as it:
        host = await it.connect()
        await it.event("accepted")
        assert it.command("async", event=1)["connections"] == []
        await host.login()
        assert await host.quiet()


@pytest.mark.parametrize("heeded", [True, False])
@in_a_loop
async def test_a_logout_request_has_its_grace_time(heeded):
    async with rig() as it:
        host, target = await it.pair()
        it.command("async", event=1, parameter3=1, grace_s=0.15)
        message = await host.read()
        assert message.bhs[36:44].hex() == "0100000000000001"
        if heeded:
            sent = from_initiator(Op.LOGOUT_REQUEST, 12)
            await host.send(sent)
            same(await target.read(), sent, at28=11)
            assert await host.quiet(0.4)
            assert not it.found("closed")
        else:
            assert await host.rest() == b""
            assert (await it.event("dropped"))["reason"] == "logout-ignored"
            passed = it.found("dropped")[0]["t"] - it.found("async-sent")[0]["t"]
            assert 0.13 < passed < 1


@in_a_loop
async def test_the_grace_time_is_parameter_3_unless_it_is_given():
    async with rig() as it:
        host, _ = await it.pair()
        it.command("async", event=1, parameter3=1, grace_s=None)
        await host.read()
        assert await host.quiet(1.2)
        it.command("async", event=1, parameter3=1)
        await host.read()
        assert await host.rest() == b""
        passed = (await it.event("dropped"))["t"] - it.found("async-sent")[1]["t"]
        assert 0.9 < passed < 2


@pytest.mark.parametrize("event", [2, 3])
@in_a_loop
async def test_announced_drops(event):
    async with rig() as it:
        host, target = await it.pair()
        mate, _ = await it.pair()  # same ISID: the same session
        other, _ = await it.pair(isid=b"\x80\0\0\0\0\2")
        select = {"connection": 1}
        it.command("async", event=event, parameter2=4, parameter3=5, select=select)
        message = await host.read()
        first = "0003" if event == 2 else "0000"  # our CID, or nothing
        assert message.bhs[36:44].hex() == f"0{event}00{first}00040005"
        assert await host.rest() == b""
        assert await target.rest() == b""
        # Both have CID 3 here, so either event takes the whole session, and no other.
        assert await mate.rest() == b""
        assert await other.quiet()
        assert {e["connection"] for e in it.found("dropped")} == {1, 2}


@in_a_loop
async def test_a_drop_of_another_cid_or_only_announced_leaves_the_connection():
    async with rig() as it:
        host, _ = await it.pair()
        it.command("async", event=2, parameter1=9)
        it.command("async", event=3, drop_after_s=None)
        assert [(await host.read()).bhs[36] for _ in range(2)] == [2, 3]
        assert await host.quiet()


ADDRESSES = {
    "10.0.0.99:3260,1": "10.0.0.99:3260,1",
    "": "",
    "10.0.0.12:port": "10.0.0.12:port",
    "10.0.0.12:99999": "10.0.0.12:99999",
    "[fd00::12]:3260,1": "[fd00::12]:3260,1",
    "array.example:3260": "array.example:3260",
    None: None,
}


@pytest.mark.parametrize("status", ["0x0101", "0x0102", "0x0201", "0x0301", "0x7fff"])
@pytest.mark.parametrize(("address", "expected"), ADDRESSES.items())
@in_a_loop
async def test_logins_are_answered_without_the_backend(status, address, expected):
    order = {"command": "answer-login", "status": status, "target_address": address}
    async with rig(order) as it:
        host = await it.connect()
        answer = await host.login()
        assert answer.opcode == Op.LOGIN_RESPONSE
        assert answer.bhs[36:38].hex() == status[2:]
        assert answer.bhs[8:14] == host.isid
        assert answer.u32(16) == 77
        assert dict(decode_keys(answer.data)).get("TargetAddress") == expected
        assert await host.rest() == b""
        host.writer.close()
        assert it.arrived.empty()
        assert (await it.event("closed"))["reason"] == "login-answered"
        await it.pair()  # one shot: the next one is served


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0"])
@in_a_loop
async def test_a_redirect_to_the_address_itself(listen):
    order = {"command": "answer-login", "target_address": "{local},1", "count": None}
    async with rig(order, listen=listen) as it:
        for _ in range(3):
            host = await it.connect()
            where = dict(decode_keys((await host.login()).data))["TargetAddress"]
            shown, port = it.address
            assert where == (f"[{shown}]" if ":" in shown else shown) + f":{port},1"
        it.command("clear")
        await it.pair()


@in_a_loop
async def test_orders_are_for_the_connections_selected():
    async with rig() as it:
        it.command("answer-login", status="0x0301", select={"initiator": "iqn.x"}, count=None)
        it.command("answer-login", status="0x0302", select={"session": "discovery"}, count=None)
        it.command("answer-login", status="0x0303", select={"peer": "192.0.2.1"}, count=None)
        host, target = await it.pair()
        for name, keys, status in (
            ("iqn.x", {}, "0301"),
            ("iqn.y", {"SessionType": "Discovery"}, "0302"),
        ):
            answer = await (await it.connect()).login(name, **keys)
            assert answer.bhs[36:38].hex() == status
        _, second = await it.pair("iqn.z")
        for select, who in (
            ({"initiator": "iqn.z"}, [4]),
            ({"peer": "127.0.0.1", "port": "p2"}, [1, 4]),
            ({"peer": it.relay.links[1].session.facts.peer}, [1]),
            ({"target": "iqn.2024-01.lab:t", "connection": 4}, [4]),
            ({"port": "p3"}, []),
        ):
            assert it.command("async", event=4, select=select)["connections"] == who
        it.command("swallow", opcode="nop-in", select={"initiator": "iqn.z"}, count=None)
        await target.send(from_target(Op.NOP_IN, 11))
        await second.send(from_target(Op.NOP_IN, 11), from_target(Op.R2T, 12))
        assert [(await host.read()).opcode for _ in range(3)] == [Op.ASYNC, Op.ASYNC, Op.NOP_IN]
        assert (await it.event("rule-swallow"))["initiator"] == "iqn.z"
        shown = it.command("status")
        assert [x["connection"] for x in shown["links"]] == [1, 4]
        assert len(shown["rules"]) == 4


@BOTH
@in_a_loop
async def test_pdus_are_swallowed_by_opcode_and_direction(digests):
    async with rig() as it:
        it.digests = digests
        host, target = await it.pair()
        it.command("swallow", opcode=["scsi-response", 0x25], count=2, skip=1)
        it.command("swallow", direction="to-target", opcode="nop-out", count=None)
        batch = [
            from_target(op, 11 + i, bytes(9000 + i))
            for i, op in enumerate([0x21, 0x20, 0x25, 0x21, 0x21, 0x31])
        ]
        task = asyncio.create_task(target.send(*batch))
        for i in (0, 1, 4, 5):
            same(await host.read(), batch[i])
        await task
        await host.send(*[from_initiator(op, i) for i, op in enumerate([0, 1, 0, 4])])
        assert [(await target.read()).opcode for _ in range(2)] == [1, 4]
        names = [e["opcode"] for e in it.found("rule-swallow")]
        assert names == ["data-in", "scsi-response", "nop-out", "nop-out"]


@in_a_loop
async def test_a_delay_keeps_the_order_of_its_direction_and_leaves_the_other_alone():
    async with rig() as it:
        host, target = await it.pair()
        it.command("delay", opcode="nop-in", seconds=0.2)
        loop = asyncio.get_running_loop()
        began = loop.time()
        batch = [from_target(op, 11 + i, b"x" * i) for i, op in enumerate([0x21, 0x20, 0x21, 0x20])]
        await target.send(*batch)
        same(await host.read(), batch[0])
        await host.send(from_initiator(Op.NOP_OUT, 11))
        await target.read()
        it.command("async", event=4)  # waits, too
        assert loop.time() - began < 0.15
        for wanted in (Op.ASYNC, Op.NOP_IN, Op.SCSI_RESPONSE, Op.NOP_IN):
            assert (await host.read()).opcode == wanted
        assert 0.2 <= loop.time() - began < 0.4  # once: the second one is not delayed


@pytest.mark.parametrize("numbered", [False, True])
@pytest.mark.parametrize("what", ["header", "header-digest", "data", "data-digest"])
@in_a_loop
async def test_what_is_corrupted_is_noticed_and_nothing_else(what, numbered):
    """Also after the relay has renumbered, and so written a header digest itself."""
    async with rig() as it:
        it.digests = "CRC32C"
        host, target = await it.pair()
        if numbered:
            it.command("async", event=4)
            await host.read()
        it.command("corrupt", what=what, offset=16 if what == "header" else 3)
        short, sent = from_target(Op.R2T, 11), from_target(Op.SCSI_RESPONSE, 11, b"hello")
        if what.startswith("data"):  # this one has no data to spoil
            await target.send(short)
            assert (await host.read()).opcode == Op.R2T
        await target.send(sent)
        with pytest.raises(DigestError, match="data" if what.startswith("data") else "header"):
            await host.read()
        await target.send(sent)
        same(await host.read(), sent, at24=12 if numbered else 11)
        assert it.found("rule-corrupt")[0]["corrupted"] == what


@BOTH
@in_a_loop
async def test_a_data_byte_is_changed_behind_the_digest(digests):
    async with rig() as it:
        it.digests = digests
        host, target = await it.pair()
        data = bytes(100001)
        offset = 70000
        it.command(
            "corrupt", what="data", offset=offset, fix_digest=True, direction="to-target",
            opcode="data-out",
        )  # fmt: skip
        task = asyncio.create_task(host.send(from_initiator(Op.DATA_OUT, 1, data)))
        got = (await target.read()).data
        await task
        assert [i for i, byte in enumerate(got) if byte] == [offset]
        assert got[offset] == 0xFF


@in_a_loop
async def test_a_digest_that_was_wrong_stays_wrong_when_the_header_is_renumbered():
    async with rig() as it:
        it.digests = "CRC32C"
        host, target = await it.pair()
        it.command("async", event=4)
        await host.read()
        raw = bytearray(from_target(Op.SCSI_RESPONSE, 11).encode(True, True))
        raw[50] ^= 4
        await target.raw(bytes(raw))
        with pytest.raises(DigestError):
            await host.read()


@pytest.mark.parametrize("direction", ["to-initiator", "to-target"])
@pytest.mark.parametrize("after", [None, 1, 20, 48, 1000, 99999])
@in_a_loop
async def test_closing_in_the_middle_of_a_pdu(direction, after):
    async with rig() as it:
        host, target = await it.pair()
        inward = direction == "to-initiator"
        sender, receiver = (target, host) if inward else (host, target)
        make = from_target if inward else from_initiator
        it.command("close", direction=direction, after=after, skip=1, opcode=0x21 if inward else 1)
        first, sent = make(0x21 if inward else 1, 11), make(0x21 if inward else 1, 12, bytes(5000))
        await sender.send(first)
        await receiver.read()
        raw = await sender.send(sent)
        passed = {None: 48 + 2500, 99999: len(raw) - 1}.get(after, after)
        assert await receiver.rest() == raw[:passed]
        assert await sender.rest() == b""
        for peer in (host, target):
            peer.writer.close()
        assert (await it.event("closed"))["reason"] == "closed-by-rule"


@in_a_loop
async def test_closing_by_reset():
    async with rig() as it:
        host, target = await it.pair()
        it.command("close", how="reset")
        await target.send(from_target(Op.SCSI_RESPONSE, 12, bytes(100)))
        for peer in (host, target):
            with pytest.raises(ConnectionResetError):
                await peer.rest()
        host, target = await it.pair()
        it.command("drop", how="reset", select={"connection": 2})
        with pytest.raises(ConnectionResetError):
            await host.rest()
        host, target = await it.pair()
        assert it.command("drop")["connections"] == [3]
        assert await host.rest() == b""


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
        it.relay._config.ports[0].__dict__["backend"] = ("127.0.0.1", 1)
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
    with pytest.raises(ValueError, match=r"configuration|address:port"):
        Config.read(raw)
