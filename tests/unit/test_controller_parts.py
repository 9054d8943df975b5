"""The controller's pure parts: configuration, frames, judgement, lines, orders."""

from __future__ import annotations

import json
import os

import pytest

from lab.controller import addresses, config, frames
from lab.controller.judge import Judge
from lab.controller.orders import Orders
from lab.controller.output import Output, Steering
from lab.errors import BadInput

CONFIG = {
    "array": "a1",
    "ports": [{"name": f"p{i}", "interface": f"a1-p{i}"} for i in (1, 2, 3)],
    "addresses": [
        {"address": "10.0.0.1/24", "home": "p1", "virtual": True},
        {"address": "fd00:0::1/64", "home": "p1", "virtual": True},
        {"address": "10.0.0.11/24", "home": "p1", "virtual": False},
        {"address": "10.0.0.12/24", "home": "p2"},
    ],
    "initiators": ["10.0.0.101"],
    "probe": {"interval_ms": 10, "count": 4},
}


def test_config_is_read_and_spelled_in_one_way(tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(CONFIG))
    read = config.read(path)
    assert list(read.places) == ["10.0.0.1", "fd00::1", "10.0.0.11", "10.0.0.12"]
    assert read.places["fd00::1"].subnet == "fd00::/64"
    assert read.places["10.0.0.11"].table == 102
    assert read.probe == config.Probe(0.01, 4)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"mode": "x"}, "takeover"),
        ({"ports": None}, "c.json"),
        ({"drained": ["p9"]}, "p9"),
        ({"virtual_at": "p9"}, "p9"),
        ({"addresses": [{"address": "10.0.0.300/24", "home": "p1"}]}, "is not an IP address"),
        ({"addresses": [{"address": "10.0.0.3/24"}]}, "home"),
        ({"addresses": [{"address": "10.0.0.3/99", "home": "p1"}]}, "prefix"),
        ({"probe": {"interval_ms": 0}}, "probe"),
    ],
)
def test_bad_config_says_what_is_wrong(tmp_path, change, complaint):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(CONFIG | change))
    with pytest.raises(BadInput, match=complaint):
        config.read(path)


def test_setup_lines_by_family_data_addresses_first():
    read = config.parse(CONFIG)
    lines = addresses.setup_lines(read, 4)
    added = [line for line in lines if line.startswith("addr add")]
    assert [line.split()[2] for line in added] == ["10.0.0.11/24", "10.0.0.12/24", "10.0.0.1/24"]
    assert "rule add from 10.0.0.1 lookup 100 priority 100" in lines
    assert "addr add fd00::1/64 dev a1-p1 nodad noprefixroute" in addresses.setup_lines(read, 6)
    assert addresses.sysctls(read)["/proc/sys/net/ipv4/conf/a1-p2/arp_ignore"] == "1"


@pytest.mark.parametrize(
    ("mode", "kept"),
    [
        ("takeover", ["10.0.0.1", "10.0.0.11", "10.0.0.12", "fd00::1"]),
        ("redirect-only", ["10.0.0.1", "fd00::1"]),
    ],
)
def test_what_moves_stays_local_and_what_is_taken_off_does_not(mode, kept):
    lines = addresses.lasting_lines(config.parse(CONFIG | {"mode": mode}))
    assert sorted(line.split()[3] for line in lines) == kept


def test_arp_announcements_say_the_same_in_both_forms():
    mac = bytes.fromhex("020000000001")
    for op, frame in enumerate(frames.announcements("10.0.0.1", mac), 1):
        assert frame[:6] == frames.BROADCAST
        assert frame[20:22] == bytes([0, op])
        assert frame[22:28] == mac
        assert frame[28:32] == frame[38:42] == bytes([10, 0, 0, 1])
    assert frames.answer(frames.announcements("10.0.0.1", mac)[1]) == "10.0.0.1"


def test_neighbour_advertisement_overrides_and_has_a_right_checksum():
    mac = bytes.fromhex("020000000001")
    (frame,) = frames.announcements("fd00::1", mac)
    assert frame[:6] == bytes.fromhex("333300000001")
    assert frame[21] == 255
    assert frame[58] == 0x20
    body = frame[22:54] + (len(frame) - 54).to_bytes(4, "big") + bytes([0, 0, 0, 58]) + frame[54:]
    total = sum(int.from_bytes(body[i : i + 2], "big") for i in range(0, len(body), 2))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF


def rounds(judge, live, hears, hosts=(), times=1):
    """`hears`: pairs (by, sender) that are heard in each of so many rounds; the last verdicts."""
    for _ in range(times):
        judge.begin(live)
        for by, sender in hears:
            judge.heard(by, sender)
        for port in hosts:
            judge.answered(port)
        verdicts = judge.verdicts()
    return verdicts


ALL = [(a, b) for a in "abc" for b in "abc" if a != b]


@pytest.mark.parametrize("way", ["in", "out", "both"])
def test_of_three_ports_the_silent_one_is_found(way):
    judge = Judge(3)
    assert set(rounds(judge, "abc", ALL, times=5).values()) == {"ok"}
    lost = {"in": lambda p: p[0] == "c", "out": lambda p: p[1] == "c", "both": lambda p: "c" in p}
    left = [p for p in ALL if not lost[way](p)]
    assert set(rounds(judge, "abc", left, times=2).values()) == {"ok"}
    assert judge.doubtful() == ["c"]
    assert rounds(judge, "abc", left) == {"a": "ok", "b": "ok", "c": "silent"}
    assert rounds(judge, "abc", ALL)["c"] == "ok"


def test_a_port_that_a_host_answers_through_is_not_silent():
    judge = Judge(3)
    rounds(judge, "abc", ALL)
    left = [p for p in ALL if "c" not in p]
    assert rounds(judge, "abc", left, hosts="c", times=50)["c"] == "ok"


def test_all_silent_at_once_is_nobodys_fault():
    judge = Judge(3)
    rounds(judge, "abc", ALL)
    assert set(rounds(judge, "abc", [], times=50).values()) == {"suspect"}


def test_of_two_ports_the_hosts_decide():
    judge = Judge(3)
    rounds(judge, "ab", [*ALL[:0], ("a", "b"), ("b", "a")])
    assert rounds(judge, "ab", [("b", "a")], times=10) == {"a": "suspect", "b": "suspect"}
    assert rounds(judge, "ab", [("b", "a")], hosts="a", times=2) == {"a": "ok", "b": "silent"}
    # It stays so, also when the host of the other one pauses: nobody is left to judge a.
    assert rounds(judge, "ab", [("b", "a")], times=50) == {"a": "ok", "b": "silent"}
    assert rounds(judge, "ab", [("b", "a"), ("a", "b")]) == {"a": "ok", "b": "ok"}


def test_one_port_alone_is_not_judged_and_starts_clean_with_company():
    judge = Judge(3)
    assert rounds(judge, "a", [], times=50) == {"a": "ok"}
    assert rounds(judge, "ab", [], times=1) == {"a": "ok", "b": "ok"}


def test_orders_that_cannot_be_followed():
    orders = Orders(config.parse(CONFIG))
    up = dict.fromkeys(("p1", "p2", "p3"), "up")
    for order, complaint in [
        ({"command": "dance"}, "not one of"),
        ({"command": "drain"}, "not one of"),
        ({"command": "move-vip", "port": "p9"}, "not one of"),
    ]:
        with pytest.raises(ValueError, match=complaint):
            orders.obey(order, up)
    with pytest.raises(ValueError, match="down"):
        orders.obey({"command": "move-vip", "port": "p2"}, up | {"p2": "down"})
    orders.obey({"command": "move-vip", "port": "p2"}, up)
    assert {a.home for a in orders.desired.addresses if a.virtual} == {"p2"}
    orders.obey({"command": "move-vip"}, up)
    assert {a.home for a in orders.desired.addresses if a.virtual} == {"p1"}


def test_the_virtual_address_goes_to_no_drained_port():
    orders = Orders(config.parse(CONFIG))
    up = dict.fromkeys(("p1", "p2", "p3"), "up")
    orders.obey({"command": "drain", "port": "p2"}, up)
    before = orders.desired
    with pytest.raises(ValueError, match="drained"):
        orders.obey({"command": "move-vip", "port": "p2"}, up)
    assert orders.desired == before
    orders.obey({"command": "undrain", "port": "p2"}, up)
    orders.obey({"command": "move-vip", "port": "p2"}, up)
    assert {a.home for a in orders.desired.addresses if a.virtual} == {"p2"}


def test_orders_that_stand_at_a_start_can_be_taken_back():
    orders = Orders(config.parse(CONFIG | {"drained": ["p3"], "virtual_at": "p2"}))
    up = dict.fromkeys(("p1", "p2", "p3"), "up")
    assert {a.home for a in orders.desired.addresses if a.virtual} == {"p2"}
    assert orders.desired.drained == {"p3"}
    orders.obey({"command": "undrain", "port": "p3"}, up)
    orders.obey({"command": "move-vip"}, up)
    assert {a.home for a in orders.desired.addresses if a.virtual} == {"p1"}
    assert not orders.desired.drained


@pytest.mark.parametrize(("mode", "asks"), [("redirect-only", True), ("takeover", False)])
def test_a_drain_that_was_cut_short_is_gone_on_with(mode, asks):
    """In the mode takeover the addresses take their sessions along; else the hosts are asked."""
    kept = Orders(config.parse(CONFIG | {"mode": mode, "drained": ["p3"]}))
    assert bool(kept.desired.rebalances) == asks
    assert not Orders(config.parse(CONFIG | {"mode": mode})).desired.rebalances


def test_steering_files(tmp_path):
    steering = Steering(tmp_path / "s")
    steering.write("10.0.0.101", "10.0.0.12")
    steering.write("10.0.0.102", None)
    steering.write("fd00::101", "fd00::12")
    steering.write("default", "10.0.0.12")
    texts = {p.name: p.read_text() for p in (tmp_path / "s").iterdir()}
    assert texts == {
        "10.0.0.101": "10.0.0.12:3260:Temporary\n",
        "10.0.0.102": "here\n",
        "fd00::101": "[fd00::12]:3260:Temporary\n",
        "default": "10.0.0.12:3260:Temporary\n",
    }
    inode = (tmp_path / "s/10.0.0.101").stat().st_ino
    steering.write("10.0.0.101", "10.0.0.12")
    assert (tmp_path / "s/10.0.0.101").stat().st_ino == inode
    steering.write("default", None)
    assert (tmp_path / "s/default").read_text() == "here\n"


def test_output_never_waits_for_its_reader():
    reader, writer = os.pipe()
    output = Output("a1", writer)
    for number in range(5000):
        output.event("redirect", number=number)
    assert output.flush(), "the pipe is full"
    seen = b""
    while output.flush() or len(seen.splitlines()) < 5000:
        seen += os.read(reader, 1 << 16)
    numbers = [json.loads(line)["number"] for line in seen.splitlines()]
    assert numbers == list(range(5000))
    os.close(reader)
    os.close(writer)
