"""Async Messages of the relay: where they go in, how the numbers agree, what follows."""

from __future__ import annotations

import pytest
from relay_peers import (
    BOTH,
    extended_cdb,
    from_initiator,
    from_target,
    in_a_loop,
    rig,
    same,
)

from targets.pdu import NO_TAG, Op, Pdu


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
                ahs = extended_cdb(bytes(16)) if op == Op.SCSI_COMMAND else b""
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
