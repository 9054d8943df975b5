"""Two tgtd, the front one redirecting, and libiscsi as the initiator, on a wire of their own.

A program that test_observe.py runs in namespaces: see `act`.
"""

import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from lab.controller import config
from lab.controller.watch import Watch
from lab.evidence import gaps
from lab.observe import AddressWatcher, Capture, addresses
from lab.timeline import Timeline
from lab.waiting import wait_for

TARGET = "iqn.2026-01.example.lab:disk"
FOREIGN_MAC = "02:00:00:00:00:66"


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
    result = {"gaps": len(gaps(timeline)), "known": len(up), "there": there}
    print(json.dumps(result))


def moves():
    """An address that moves while notifications get lost, and while the kernel is asked; never is
    it on two ports. What the watcher tells of it."""
    for name in ("p1", "p2", "p3"):
        sh("ip", "link", "add", name, "type", "bridge")
    sh("ip", "addr", "add", "10.0.0.1/24", "dev", "p1")
    timeline = Timeline()
    addresses.BUFFER = 16384
    watcher = AddressWatcher(timeline)
    hold = threading.Lock()
    receive, dump = watcher._receive, watcher._dump

    def slow(sock):
        with hold:
            receive(sock)

    def batch(*lines):
        subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)

    def move(*ports):
        for one, other in itertools.pairwise(ports):
            batch(f"addr del 10.0.0.1/24 dev {one}", f"addr add 10.0.0.1/24 dev {other}")

    def busy():
        watcher._dump = dump  # once
        move("p2", "p3", "p1", "p2")
        found = dump()
        move("p2", "p1", "p2", "p3")
        return found

    watcher._receive = slow
    with watcher:
        hold.acquire()
        batch(*(f"addr add 10.9.{n}.1/24 dev p1" for n in range(200)))
        move("p1", "p3", "p2")
        watcher._dump = busy
        hold.release()
        wait_for("the gap", lambda: gaps(timeline), seconds=5)
    told = [[e["op"], e["where"]] for e in timeline.events("address") if e["address"] == "10.0.0.1"]
    print(json.dumps({"told": told, "gaps": len(gaps(timeline))}))


def controller_watch():
    """The same for the controller's watch, by turns: what it knows, and what is."""
    ports = ("p1", "p2")
    for name in ports:
        sh("ip", "link", "add", name, "type", "bridge")
    content = {"array": "a1", "ports": [{"name": n, "interface": n} for n in ports]}
    content["addresses"] = [{"address": "10.0.0.1/24", "home": "p1"}]
    watch = Watch(config.parse(content))
    watch._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    found = []
    for _ in range(6):
        lines = ["addr add 10.0.0.1/24 dev p1"]
        lines += [f"addr {act} 10.9.{n}.1/24 dev p1" for act in ("add", "del") for n in range(40)]
        lines += ["addr del 10.0.0.1/24 dev p1", "addr add 10.0.0.1/24 dev p2"]
        subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)
        changes = watch.update()
        watch.update()
        found.append([sorted(watch.owners()["10.0.0.1"]), changes.gained])
        sh("ip", "addr", "del", "10.0.0.1/24", "dev", "p2")
        watch.update()
        found[-1].append(sorted(watch.owners()["10.0.0.1"]))
    print(json.dumps(found))


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
    elif what == "moves":
        moves()
    elif what == "controller-watch":
        controller_watch()
