"""The relay's standing orders: login answers, lost, late, spoilt and cut-off PDUs."""

from __future__ import annotations

import asyncio

import pytest
from relay_peers import (
    BOTH,
    from_initiator,
    from_target,
    in_a_loop,
    rig,
    same,
)

from targets.pdu import DigestError, Op, decode_keys

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
        it.command("delay", opcode="nop-in", seconds=0.5)
        loop = asyncio.get_running_loop()
        began = loop.time()
        batch = [from_target(op, 11 + i, b"x" * i) for i, op in enumerate([0x21, 0x20, 0x21, 0x20])]
        await target.send(*batch)
        same(await host.read(), batch[0])
        await host.send(from_initiator(Op.NOP_OUT, 11))
        await target.read()
        it.command("async", event=4)  # waits, too
        assert loop.time() - began < 0.45
        for wanted in (Op.ASYNC, Op.NOP_IN, Op.SCSI_RESPONSE, Op.NOP_IN):
            assert (await host.read()).opcode == wanted
        assert 0.5 <= loop.time() - began < 0.9  # once: the second one is not delayed


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
