"""A host, as root, forges and replays the control frames of heads: it changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

from lab.timeline import Timeline

# What runs on h1: for so many seconds it sends all that it can to the data port with that MAC.
FORGE = '''
import json, socket, struct, subprocess, sys, time, zlib

mac, seconds = bytes.fromhex(sys.argv[1].replace(":", "")), float(sys.argv[2])
route = subprocess.run(["ip", "-j", "route", "get", "10.0.0.11"], capture_output=True, text=True)
dev, mine = (json.loads(route.stdout)[0][key] for key in ("dev", "prefsrc"))
with open(f"/sys/class/net/{dev}/address") as file:
    own = bytes.fromhex(file.read().strip().replace(":", ""))
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
raw.bind((dev, 0x88B5))
raw.settimeout(0.5)

def total(data):
    found = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while found >> 16:
        found = (found & 0xFFFF) + (found >> 16)
    return ~found & 0xFFFF

def datagram(source, body):
    """From the controller's address to the agent of the head a1a, through its data port."""
    udp = struct.pack("!HHHH", 5405, 5405, 8 + len(body), 0) + body
    ends = socket.inet_aton(source) + socket.inet_aton("192.168.0.2")
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + ends
    ip = ip[:10] + struct.pack("!H", total(ip)) + ip[12:]
    return mac + own + b"\\x08\\x00" + ip + udp

order = {"to": "a1a", "epoch": 1 << 62, "number": 1, "grant": None, "addresses": [],
         "connections": []}
header = struct.Struct("!BBHHQQ")
body = json.dumps(order).encode()
frames = [datagram("192.168.0.1", text) for text in (
    body,
    header.pack(1, 2, 0xFFFF, len(body), 1 << 62, 1 << 62) + body + bytes(16),
    b"{", b"", b"[]", b"\\xff" * 40, bytes(1400))]
# The host answers questions that no head could ask any more, and speaks for the other head.
arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + own + socket.inet_aton(mine) + mac + bytes(4)
frames.append((mac + own + b"\\x08\\x06" + arp).ljust(60, b"\\0"))
frames.append((b"\\xff" * 6 + own + b"\\x88\\xb5" + struct.pack(
    "!4sIBIH", b"abfo", zlib.crc32(b"a1 0"), 1, 3, 0)).ljust(60, b"\\0"))
heard = []
until = time.monotonic() + 0.3
while time.monotonic() < until:
    # From its own MAC: with another one it would only cut that one's cable at the switch.
    frame = raw.recv(256)
    heard.append(frame[:6] + own + frame[12:])
assert heard, "no probe was heard"
print(len(heard), flush=True)
if sys.argv[3] == "signs":
    frames = frames[-2:]
until = time.monotonic() + seconds
while time.monotonic() < until:
    for frame in [*frames, heard[0], heard[-1], heard[len(heard) // 2]]:
        raw.send(frame)
    time.sleep(0.01)
'''

SCENARIOS = f'''
from lab.checks import (
    fenced_before_moved, kernel_quiet, moved_to, no_io_errors, no_lost_writes,
    one_owner_of_virtual_address, reached, same_connection, stall_below)
from lab.checks.address import owners_at
from lab.faults.network import port_deaf_or_mute
from lab.run.scenario import scenario
from lab.scenarios.promises import at_home, under_load
from lab.waiting import wait_for

def forge(lab, what, seconds):
    h1, said = lab.host("h1"), []
    (facts,) = lab.timeline.events("config")
    argv = ["python3", "-c", {FORGE!r}, facts["macs"]["a1a"], str(seconds), what]
    process = h1.runner.start(argv, log=lab.folder.logs / "forge.log", on_line=said.append)
    wait_for("frames to be forged", lambda: said, seconds=10.0)
    return process

COMMON = [no_io_errors("h1"), no_lost_writes("h1"), one_owner_of_virtual_address(),
          kernel_quiet(), reached()]

@scenario(topology="two_heads", policy=at_home(), needs=("heads",))
def live_head(lab):
    """A host makes orders for a head that lives, and sends what is none."""
    h1 = under_load(lab)
    process = forge(lab, "all", 1.5)
    h1.keeps_writing()
    assert process.wait(20.0) == 0
    h1.keeps_writing()
    h1.stop_and_verify()
    return [moved_to(lab.array.virtual, "a1a"), same_connection("h1"), stall_below("h1", 1000.0),
            *COMMON]

@scenario(topology="two_heads", policy=at_home(), needs=("heads",))
def mute_head(lab):
    """A head can say nothing any more at its data port, and a host says that it does."""
    h1 = under_load(lab)
    process = forge(lab, "signs", 6.0)
    lab.begin(port_deaf_or_mute(lab, "a1a", "from"))
    wait_for("the address to move", lambda: owners_at(lab.timeline, lab.array.virtual),
             until=lambda owners: "a1b" in owners, seconds=5.0)
    assert process.poll() is None, "it ended too early to show anything"
    h1.keeps_writing()
    h1.stop_and_verify()
    return [moved_to(lab.array.virtual, "a1b"), *COMMON]
'''


def run(run_scenario, tmp_path, name) -> Timeline:
    path = tmp_path / "forged.py"
    path.write_text(SCENARIOS)
    result = run_scenario(f"{path}:{name}")
    assert result["verdict"] == "pass", json.dumps(result["checks"], indent=1)
    return Timeline.read(Path(result["folder"]) / "timeline.jsonl")


def test_a_host_cannot_make_a_live_head_look_dead(run_scenario, tmp_path):
    timeline = run(run_scenario, tmp_path, "live_head")
    assert not timeline.events("power")
    rejected = [e["counts"] for e in timeline.events("controller", "a1a")
                if e["what"] == "control-rejected"]  # fmt: skip
    reasons = {reason for counts in rejected for reason in counts}
    assert {"too short", "of another kind", "of another key", "seen before"} <= reasons
    assert len(rejected) < 6  # many a second, told once a second


def test_a_host_cannot_keep_a_dead_head_alive(run_scenario, tmp_path):
    timeline = run(run_scenario, tmp_path, "mute_head")
    assert "head-dark" in {e["what"] for e in timeline.events("controller")}
