"""Observers on a real wire: two tgtd, the front one redirecting, and libiscsi as the initiator.

Run as a program, this file is what happens inside the namespaces: see `act`.
"""

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lab.errors import CommandFailed
from lab.observe import AddressWatcher, Capture, addresses, decode
from lab.observe.bpf import PDUS, TEXTS, compiled, control_filter
from lab.timeline import Timeline
from lab.waiting import wait_for

TARGET = "iqn.2026-01.example.lab:disk"
NEEDED = ("unshare", "ip", "tgtd", "tgtadm", "qemu-io", "tshark", "mergecap")
HOSTS = {"10.0.0.101": "h1", "fd00::101": "h1"}
FOREIGN_MAC = "02:00:00:00:00:66"
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


# --- inside the namespaces -------------------------------------------------------------------


def sh(*argv, check=True, seconds=20, env=None):
    return subprocess.run(
        argv, check=check, timeout=seconds, capture_output=True, text=True, env=env
    ).stdout


def inside(name, *argv, **more):
    return sh("ip", "netns", "exec", name, *argv, **more)


def wire():
    """A bridge; a host h1; an array a1 with two ports, each on the bridge."""
    sh("mount", "-t", "tmpfs", "none", "/run")
    sh("ip", "link", "set", "lo", "up")
    sh("ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
    sh("ip", "link", "set", "br0", "up")
    for name in ("h1", "a1"):
        sh("ip", "netns", "add", name)
        sh("ip", "-n", name, "link", "set", "lo", "up")
    ends = (("h1", "h1-eth0", "101"), ("a1", "a1-p1", "1"), ("a1", "a1-p2", "12"))
    for name, interface, last in ends:
        sh("ip", "link", "add", f"s1-{interface}", "type", "veth", "peer", interface, "netns", name)
        sh("ip", "link", "set", f"s1-{interface}", "master", "br0", "up")
        sh("ip", "-n", name, "addr", "add", f"10.0.0.{last}/24", "dev", interface)
        sh("ip", "-n", name, "addr", "add", f"fd00::{last}/64", "dev", interface, "nodad")
        sh("ip", "-n", name, "link", "set", interface, "up")


def tgtadm(control, *argv):
    env = {**os.environ, "TGT_IPC_SOCKET": "/run/tgt"}
    return inside("a1", "tgtadm", "-C", control, "--lld", "iscsi", *argv, env=env)


def redirect(to):
    for name, value in (("Address", to), ("Port", "3260"), ("Reason", "Temporary")):
        update = ("--op", "update", "--mode", "target", "--tid", "1")
        tgtadm("0", *update, "--name", f"Redirect{name}", "--value", value)


def array(out):
    """A front tgtd at the virtual address, and one that serves the data port."""
    disk = out / "disk"
    with disk.open("wb") as file:
        file.truncate(1 << 20)
    env = {**os.environ, "TGT_IPC_SOCKET": "/run/tgt"}
    started = []
    for control, last in (("0", "1"), ("1", "12")):
        argv = ["ip", "netns", "exec", "a1", "tgtd", "-f", "-C", control]
        argv += ["--iscsi", f"portal=10.0.0.{last}:3260"]
        log = (out / f"tgtd{control}.log").open("wb")
        started.append(subprocess.Popen(argv, env=env, stdout=log, stderr=log))

        def answers(control=control):
            try:
                return tgtadm(control, "--op", "show", "--mode", "sys")
            except subprocess.CalledProcessError:
                return ""

        wait_for(f"tgtd {control}", answers, seconds=10)
        new_portal = ("--op", "new", "--mode", "portal", "--param")
        tgtadm(control, *new_portal, f"portal=[fd00::{last}]:3260")
        tgtadm(control, "--op", "new", "--mode", "target", "--tid", "1", "-T", TARGET)
        tgtadm(control, "--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL")
    new_lun = ("--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1")
    tgtadm("1", *new_lun, "-b", str(disk))
    redirect("10.0.0.12")
    return started


def discover_in_pieces(portal):
    """A discovery whose PDUs come as header and text in segments of their own."""

    def pdu(opcode, flags, keys, tag):
        text = "".join(f"{key}\0" for key in keys).encode()
        header = bytearray(48)
        header[0], header[1] = opcode, flags
        header[5:8] = len(text).to_bytes(3, "big")
        header[8:14] = bytes.fromhex("400001370000")
        header[16:20] = tag.to_bytes(4, "big")
        header[20:24] = (0xFFFFFFFF if opcode == 0x04 else 0).to_bytes(4, "big")
        return bytes(header), text + b"\0" * (-len(text) % 4)

    hello = ("InitiatorName=iqn.2026-01.example.lab:pieces", "SessionType=Discovery")
    with socket.create_connection((portal, 3260), timeout=5) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stages = [(0x43, 0x87, hello, 1), (0x04, 0x80, ("SendTargets=All",), 2)]
        for stage in stages:
            for piece in pdu(*stage):
                sock.sendall(piece)
            sock.recv(65536)


def announce(address, mac, interface):
    """A gratuitous ARP, said by whoever (RFC 5227 section 3)."""
    hw, ip = bytes.fromhex(mac.replace(":", "")), socket.inet_aton(address)
    frame = b"\xff" * 6 + hw + b"\x08\x06" + bytes.fromhex("0001080006040001")
    frame += hw + ip + b"\0" * 6 + ip
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((interface, 0))
        sock.send(frame)


def act(out):
    """What the captures in `out` record; facts that the test needs go to facts.json."""
    wire()
    started = array(out)
    places = {"h1": "s1-h1-eth0", "p1": "s1-a1-p1", "p2": "s1-a1-p2"}
    timeline = Timeline(out / "timeline.jsonl")
    url = f"{TARGET}/1"
    with (
        Capture(places, out / "pcap", timeline=timeline),
        AddressWatcher(timeline, started[0].pid, {"a1-p1": "p1", "a1-p2": "p2"}),
    ):
        io = ("qemu-io", "-f", "raw", "-c", "write -P 0 0 512k", "-c", "read 0 512k")
        inside("h1", *io, f"iscsi://10.0.0.1/{url}")
        inside("h1", sys.executable, __file__, "discover", "10.0.0.1")
        redirect("[fd00::12]")
        inside("h1", "qemu-img", "info", f"iscsi://[fd00::1]/{url}")
        inside("h1", sys.executable, __file__, "announce", "10.0.0.1", FOREIGN_MAC, "h1-eth0")
        # The switch's end of a cable goes down and up: recording must go on.
        sh("ip", "link", "set", "s1-a1-p2", "down")
        sh("ip", "-n", "a1", "addr", "del", "10.0.0.12/24", "dev", "a1-p2")
        sh("ip", "-n", "a1", "addr", "add", "10.0.0.12/24", "dev", "a1-p1")
        sh("ip", "link", "set", "s1-a1-p2", "up")
        announce("10.0.0.12", FOREIGN_MAC, "br0")
    timeline.close()
    for process in started:
        process.kill()
        process.wait()


# --- outside -----------------------------------------------------------------------------------


def in_namespaces(*argv, seconds=60):
    """Run this file in namespaces of its own; they and all in them end with it."""
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
        [*unshare, sys.executable, __file__, *argv],
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
    assert not timeline.events("watch-gap")
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


def test_a_namespace_that_is_not_there():
    with pytest.raises(Exception, match="cannot watch"), AddressWatcher(Timeline(), 1 << 22):
        pass


def overflow():
    """Changes faster than anyone reads, then the state that the watcher believes in."""
    sh("ip", "link", "add", "br0", "type", "bridge")
    timeline = Timeline()
    addresses.BUFFER = 16384
    watcher = AddressWatcher(timeline)
    hold = threading.Lock()
    really = watcher._receive

    def slow(sock):
        with hold:
            really(sock)

    watcher._receive = slow
    with watcher:
        hold.acquire()
        lines = []
        for a in range(30):
            lines += [f"addr add 10.{a}.{b}.1/24 dev br0" for b in range(20)]
        lines += [f"addr del 10.{a}.0.1/24 dev br0" for a in range(15)]
        subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)
        hold.release()
    up = set()
    for event in timeline.events("address"):
        (up.add if event["op"] == "add" else up.discard)(event["address"])
    there = sh("ip", "-o", "-4", "addr", "show", "dev", "br0").count(" inet ")
    result = {"gaps": len(timeline.events("watch-gap")), "known": len(up), "there": there}
    print(json.dumps(result))


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "act":
        act(Path(rest[0]))
    elif what == "discover":
        discover_in_pieces(rest[0])
    elif what == "announce":
        announce(*rest)
    elif what == "overflow":
        overflow()
