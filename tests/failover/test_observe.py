"""Observers on a real wire: that of observed_wire.py."""

import json
import os
import shutil
import struct
import subprocess
import sys
import threading
from pathlib import Path

import observed_wire
import pytest
from observed_wire import FOREIGN_MAC

from lab.errors import CommandFailed, LabError
from lab.evidence import gaps
from lab.observe import AddressWatcher, addresses, decode
from lab.observe.bpf import PDUS, TEXTS, compiled, control_filter
from lab.timeline import Timeline

NEEDED = ("unshare", "ip", "tgtd", "tgtadm", "qemu-io", "tshark", "mergecap")
HOSTS = {"10.0.0.101": "h1", "fd00::101": "h1"}
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def in_namespaces(*argv, seconds=60):
    """Run observed_wire.py in namespaces of its own; they and all in them end with it."""
    missing = [n for n in NEEDED if not shutil.which(n, path=PATH)]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    unshare = ["unshare", "-n", "-m", "--pid", "--fork", "--kill-child", "--mount-proc"]
    unshare += [] if os.geteuid() == 0 else ["-r"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not allow network namespaces here")
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": root, "PATH": PATH}
    done = subprocess.run(
        [*unshare, sys.executable, observed_wire.__file__, *argv],
        env=env,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("wire")
    in_namespaces("act", str(out))
    return out


@pytest.fixture(scope="module")
def events(run):
    places = {where: run / "pcap" / f"{where}.pcap" for where in ("h1", "p1", "p2")}
    return decode(places, HOSTS)


def of(events, kind, **wanted):
    return [
        e for e in events if e["kind"] == kind and all(e.get(k) == v for k, v in wanted.items())
    ]


def test_a_redirected_login_is_two_logins(events):
    first, second = [e for e in of(events, "login", where="h1") if e["portal"][0] == "1"][:2]
    assert first["portal"] == "10.0.0.1:3260"
    assert (first["status"], first["target_address"]) == ("0x0101", "10.0.0.12:3260")
    assert (second["portal"], second["status"]) == ("10.0.0.12:3260", "0x0000")
    assert second["target_address"] is None
    assert first["isid"] == second["isid"] != ""
    assert first["source"] == "wire"


def late(capture, wanted, follower):
    """`capture` with the frame that tshark finds by `wanted` right after the next `follower`."""

    def first(question, after=0):
        only = f"frame.number > {after} and {question}"
        argv = ["tshark", "-r", str(capture), "-Y", only, "-T", "fields", "-e", "frame.number"]
        return int(subprocess.run(argv, capture_output=True, check=True).stdout.split()[0])

    data = capture.read_bytes()
    header, rest, records = data[:24], data[24:], []
    while rest:
        length = 16 + struct.unpack_from("=I", rest, 8)[0]
        records.append((rest[:8], rest[8:length]))
        rest = rest[length:]
    number = first(wanted)
    behind = first(follower, number)
    times = [time for time, _ in records]
    bodies = [body for _, body in records]
    bodies.insert(behind - 1, bodies.pop(number - 1))
    return header + b"".join(time + body for time, body in zip(times, bodies, strict=True))


def test_an_answer_that_comes_after_the_end_of_its_connection(run, tmp_path):
    capture = run / "pcap" / "h1.pcap"
    expected = [(e["portal"], e["status"]) for e in of(decode({"h1": capture}, HOSTS), "login")]
    assert expected[0] == ("10.0.0.1:3260", "0x0101")
    moved = tmp_path / "h1.pcap"
    moved.write_bytes(late(capture, "iscsi.login.status == 0x0101", "tcp.flags.fin == 1"))
    found = decode({"h1": moved}, HOSTS)
    assert [(e["portal"], e["status"]) for e in of(found, "login")] == expected
    assert len(of(found, "hung-up")) == len(of(decode({"h1": capture}, HOSTS), "hung-up"))


def test_a_redirect_by_ipv6(events):
    first, second = [e for e in of(events, "login", where="h1") if e["portal"][0] == "["][:2]
    assert (first["portal"], first["status"]) == ("[fd00::1]:3260", "0x0101")
    assert first["target_address"] == "[fd00::12]:3260"
    assert (second["portal"], second["status"]) == ("[fd00::12]:3260", "0x0000")


def test_each_login_is_one_event_however_many_places_it_passed(run, events):
    alone = decode({"h1": run / "pcap" / "h1.pcap"}, HOSTS)
    for kind in ("login", "logout", "discovery-wire", "discovery-login"):
        assert len(of(alone, kind)) == len(of(events, kind)) > 0


def test_a_discovery_in_pieces_is_a_discovery_and_no_login(events):
    (found,) = of(events, "discovery-wire")
    assert found["portals"] == ["10.0.0.1:3260"]
    assert found["where"] == "h1"
    (login,) = of(events, "discovery-login")
    assert (login["portal"], login["status"]) == ("10.0.0.1:3260", "0x0000")


def test_a_logout_has_its_portal(events):
    assert of(events, "logout", where="h1", portal="10.0.0.12:3260", reason=0)


def test_announcements_are_seen_where_they_pass_and_after_a_cable_was_pulled(events):
    said = of(events, "announcement", address="10.0.0.1", mac=FOREIGN_MAC)
    assert {e["where"] for e in said} == {"h1", "p1", "p2"}
    said = of(events, "announcement", address="10.0.0.12", mac=FOREIGN_MAC)
    assert "p2" in {e["where"] for e in said}
    assert of(events, "arp-claim", address="10.0.0.1")


def test_bulk_data_is_not_kept(run):
    assert sum(p.stat().st_size for p in (run / "pcap").glob("*.pcap")) < 100_000


def test_the_kernel_says_which_port_has_an_address(run):
    timeline = Timeline.read(run / "timeline.jsonl")
    assert not gaps(timeline)
    moves = [
        (e["op"], e["where"]) for e in timeline.events("address") if e["address"] == "10.0.0.12"
    ]
    assert moves == [("add", "p2"), ("del", "p2"), ("add", "p1")]
    assert {"fd00::1", "fd00::12"} <= {e["address"] for e in timeline.events("address")}
    assert all(e["source"] == "kernel" for e in timeline.events("address"))


def test_events_are_sorted_and_can_be_written(events):
    assert [e["t"] for e in events] == sorted(e["t"] for e in events)
    json.dumps(events)


def test_a_file_that_is_no_capture_is_named(tmp_path):
    if not shutil.which("mergecap"):
        pytest.skip("not installed: mergecap")
    bad = tmp_path / "bad.pcap"
    bad.write_text("nothing of the kind")
    with pytest.raises(CommandFailed, match="bad"):
        decode({"h1": bad})


def test_nothing_captured_is_no_event():
    assert decode({}) == []


def test_the_filter_names_what_it_keeps():
    text = control_filter((3260, 3261))
    assert "tcp port 3261" in text
    assert all(f"{value:#x}" in text for _, value in PDUS)
    assert all(text.count(f"0x{word.encode().hex()}") == 2 for word in TEXTS)
    with compiled(text) as program:
        assert program


def test_a_wrong_filter_is_refused():
    with pytest.raises(ValueError, match="tcp prot"), compiled("tcp prot"):
        pass


@pytest.mark.parametrize("first", [b"\x00\x00\x00\x00", b"Clea", b"#inc", b"\x01\x80\x00\x00"])
def test_the_filter_does_not_take_data_for_a_pdu(first):
    word = int.from_bytes(first, "big")
    assert not any(word & mask == value for mask, value in PDUS)


def test_an_overflow_is_noted_and_what_was_missed_follows():
    result = json.loads(in_namespaces("overflow"))
    assert result["gaps"] >= 1
    assert result["known"] == result["there"]


def test_what_moved_while_changes_got_lost_is_never_told_at_two_places():
    result = json.loads(in_namespaces("moves"))
    assert result["gaps"] == 1
    owners = []
    for op, where in result["told"]:
        if op == "add":
            owners.append(where)
        else:
            owners.remove(where)
        assert len(owners) < 2, result["told"]
    assert owners == ["p3"]


def test_the_controller_knows_where_an_address_is_after_an_overrun():
    """What came of it before: a plan that left the address on two ports."""
    for owners, gained, after in json.loads(in_namespaces("controller-watch")):
        assert owners == ["p2"]
        assert gained == [["10.0.0.1", "p2"]]
        assert after == []


def test_a_watcher_that_does_not_begin_says_so(monkeypatch):
    monkeypatch.setattr(addresses, "READY_S", 0.05)
    watcher, asked = AddressWatcher(Timeline()), threading.Event()
    monkeypatch.setattr(watcher, "_dump", lambda: asked.wait(5.0) and [])
    threading.Timer(0.2, asked.set).start()
    with pytest.raises(LabError, match=r"did not begin within 0\.05 s"), watcher:
        pass


def test_a_watcher_that_does_not_end_says_so(monkeypatch):
    monkeypatch.setattr(addresses, "STOP_S", 0.05)
    timeline = Timeline()
    watcher, held = AddressWatcher(timeline), threading.Event()
    monkeypatch.setattr(watcher, "_watch", lambda _: held.wait(5.0))
    with pytest.raises(LabError, match=r"did not read to the end within 0\.05 s"), watcher:
        pass
    held.set()
    assert len(gaps(timeline)) == 1


def test_a_namespace_that_is_not_there():
    with pytest.raises(Exception, match="cannot watch"), AddressWatcher(Timeline(), 1 << 22):
        pass


@pytest.fixture
def long_capture(tmp_path):
    """More than a pipe holds, of frames that no one asks for."""
    path = tmp_path / "long.pcap"
    frame = struct.pack("<4I", 0, 0, 60, 60) + bytes(60)
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + frame * 10_000)
    return path


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("ending", "said"), [("echo no room >&2; exit 3", "status 3: no room"), ("exit 0", "too early")]
)
def test_a_tshark_that_ends_early_is_told_at_once(
    long_capture, tmp_path, monkeypatch, ending, said
):
    """Then nobody reads what mergecap writes, which would wait for ever."""
    if not shutil.which("mergecap"):
        pytest.skip("not installed: mergecap")
    (tmp_path / "tshark").write_text(f"#!/bin/sh\n{ending}\n")
    (tmp_path / "tshark").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(CommandFailed, match="tshark") as error:
        decode({"p1": long_capture})
    assert said in str(error.value)
