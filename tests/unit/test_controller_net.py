"""The controller on real links: namespaces, a bridge, ip; no guest."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import controller_net
import pytest
from controller_net import REPO, Controller, Monitor, Net

from lab.controller.addresses import DIE_AT
from lab.waiting import wait_for

WHY_NOT = controller_net.why_not()
pytestmark = pytest.mark.skipif(
    bool(WHY_NOT), reason=f"needs root or unprivileged user namespaces: {WHY_NOT}"
)
PROBE = {"interval_ms": 20, "count": 3}


@pytest.fixture
def net_of(tmp_path):
    made = []

    def make(**settings):
        made.append(Net(tmp_path, **settings))
        return made[-1]

    yield make
    for net in made:
        net.close()


@pytest.fixture
def control():
    made = []

    def start(net, settled=True, **env):
        made.append(Controller(net, **env))
        if settled:
            made[-1].until("settled")
        return made[-1]

    yield start
    for controller in made:
        if not controller.ended():
            controller.end()


def at_home(net):
    return {net.vip: ["a1-p1"]} | {a: [f"a1-{name}"] for name, a in net.data.items()}


@pytest.mark.parametrize("version", [4, 6])
def test_carrier_loss_moves_addresses_and_they_return(net_of, control, version):
    net = net_of(version=version)
    controller = control(net)
    assert net.where() == at_home(net)
    assert net.reachable(net.vip)
    first = net.data["p1"]
    shown = f"[{first}]" if version == 6 else first
    assert net.answer() == f"{shown}:3260:Temporary\n"
    begun = time.time()
    net.switch.run("ip link set s1-p1 down")
    moved = controller.until("moved", address=net.vip)
    controller.until("settled")
    assert moved["cause"] == "carrier"
    assert moved["t"] - begun < 1.0
    print(f"\nIPv{version}: {1000 * (moved['t'] - moved['detected_t']):.2f} ms from the event")
    assert net.owners(net.vip) == net.owners(first) == ["a1-p2"]
    assert net.data["p2"] in net.answer()
    assert net.reachable(net.vip)
    assert net.reachable(first)
    net.switch.run("ip link set s1-p1 up")
    controller.until("holding-off", port="p1")
    back = controller.until("moved", address=net.vip)
    assert back["cause"] == "hold"
    controller.until("settled")
    assert net.where() == at_home(net)
    assert net.reachable(net.vip)
    assert not [e for e in controller.events if e["what"] in ("refused", "repaired")]


def test_the_host_hears_the_announcement_within_the_lock_time(net_of, control):
    net = net_of(hold_s=60)
    controller = control(net)
    macs = {k["ifname"]: k["address"] for k in json.loads(net.array.run("ip -j link"))}

    def known():
        found = json.loads(net.switch.run(f"ip -j neigh show {net.vip}"))
        return found[0].get("lladdr") if found else None

    for down, then in (("p1", "p2"), ("p2", "p3")):
        net.switch.run("ip neigh flush all")
        assert net.reachable(net.vip)
        assert known() == macs[f"a1-{down}"], "the entry is less than a second old now"
        net.switch.run(f"ip link set s1-{down} down")
        controller.until("settled")
        wait_for("the new neighbour", known, until=macs[f"a1-{then}"].__eq__, seconds=0.5)


@pytest.mark.parametrize("admin", ["a1-p1", "s1-p1"])
@pytest.mark.parametrize("version", [4, 6])
def test_all_ports_lost_and_one_returns(net_of, control, version, admin):
    net = net_of(version=version)
    controller = control(net)
    side = net.array if admin.startswith("a1") else net.switch
    for name in ("p3", "p2", "p1"):
        side.run(f"ip link set {admin[:3]}{name} down")
        controller.until("port-down", port=name)
    controller.until("no-port-left")
    side.run(f"ip link set {admin[:3]}p2 up")
    controller.until("settled")
    assert all(owners == ["a1-p2"] for owners in net.where().values())
    wait_for("an answer", lambda: net.reachable(net.vip), seconds=5)
    for name in ("p1", "p3"):
        side.run(f"ip link set {admin[:3]}{name} up")
    wait_for("home", net.where, until=lambda seen: seen == at_home(net), seconds=5)
    controller.until("settled")
    for address in net.where():
        wait_for("an answer", lambda a=address: net.reachable(a), seconds=5)


# What the switch does so that frames are lost and the link stays up.
SILENCE = {
    "both ways": ("ip link set s1-p1 nomaster", "ip link set s1-p1 master s1"),
    "into the array": (
        "tc qdisc add dev s1-p1 root tbf rate 8bit burst 10b limit 10b",
        "tc qdisc del dev s1-p1 root",
    ),
    "out of the array": (
        # A locked port forwards nothing from an address that is not in the table.
        "bridge link set dev s1-p1 learning off locked on; ip link set s1 type bridge fdb_flush",
        "bridge link set dev s1-p1 learning on locked off",
    ),
}


@pytest.mark.parametrize("way", SILENCE)
@pytest.mark.parametrize("ports", [3, 2])
def test_a_silent_port_is_found(net_of, control, way, ports):
    net = net_of(ports=ports, probe=PROBE)
    controller = control(net)
    begun = time.time()
    net.switch.run(SILENCE[way][0])
    down = controller.until("port-down", port="p1", cause="probe")
    controller.until("settled")
    print(f"\n{ports} ports, {way}: {1000 * (down['t'] - begun):.0f} ms")
    assert net.owners(net.vip) == net.owners(net.data["p1"]) == ["a1-p2"]
    assert net.reachable(net.vip)
    net.switch.run(SILENCE[way][1])
    controller.until("moved", address=net.vip, cause="hold")
    controller.until("settled")
    assert net.where() == at_home(net)
    assert not [e for e in controller.events if e["what"] == "port-down" and e["port"] != "p1"]


def test_a_silent_ipv6_port_is_found_by_what_hosts_answer(net_of, control):
    net = net_of(ports=2, version=6, probe=PROBE)
    controller = control(net)
    net.switch.run(SILENCE["both ways"][0])
    controller.until("port-down", port="p1", cause="probe")
    controller.until("settled")
    assert net.owners(net.vip) == ["a1-p2"]


def test_two_silent_ports_and_nobody_to_ask_are_suspect(net_of, control):
    net = net_of(ports=2, probe=PROBE, initiators=[])
    controller = control(net)
    net.switch.run(SILENCE["both ways"][0])
    controller.until("suspect", port="p1")
    controller.until("suspect", port="p2")
    assert net.where() == at_home(net)


def test_no_false_alarm_while_the_machine_is_busy_and_it_is_stopped(net_of, control):
    net = net_of(probe=PROBE)
    controller = control(net)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        controller.order(command="status")
        controller.until("status")
        pid = next(e["pid"] for e in controller.events if e["what"] == "started")
        for _ in range(3):
            subprocess.run(["kill", "-STOP", str(pid)], check=True)
            with pytest.raises(AssertionError):
                controller.until("port-down", seconds=0.4)
            subprocess.run(["kill", "-CONT", str(pid)], check=True)
            with pytest.raises(AssertionError):
                controller.until("port-down", seconds=0.4)
        assert not [e for e in controller.events if e["what"] in ("port-down", "suspect")]
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_changes_by_hand_are_put_right(net_of, control):
    net = net_of()
    controller = control(net)
    for command in (
        f"ip addr add {net.vip}/24 dev a1-p3",
        f"ip addr del {net.vip}/24 dev a1-p1",
        f"ip addr del {net.vip}/24 dev a1-p1; ip addr add {net.vip}/32 dev lo",
        # Repaired while it still flushes, it goes round ten times and complains: as it should.
        "ip addr flush dev a1-p2 scope global 2>/dev/null || true",
        f"ip link add d0 type bridge; ip addr add {net.vip}/16 dev d0",
    ):
        net.array.run(command)
        controller.until("repaired")
        wait_for(command, net.where, until=lambda seen: seen == at_home(net), seconds=2)
        controller.until("settled")
        assert net.reachable(net.vip)


@pytest.mark.parametrize("version", [4, 6])
def test_an_address_stays_local_while_it_is_on_no_port(net_of, control, version):
    net = net_of(version=version)
    controller = control(net)
    controller.process.send_signal(signal.SIGSTOP)
    address = net.data["p1"]
    arrives, leaves = f"ip route get {address}", f"ip route get {net.host} from {address}"
    bits = 24 if version == 4 else 64
    try:
        net.array.run(f"ip addr del {address}/{bits} dev a1-p1")
        assert "local" in net.array.run(arrives)
        assert "dev a1-p1 table" in net.array.run(leaves)
        net.switch.run("ip neigh flush all; ip -6 neigh flush all")
        assert not net.reachable(address), "no port has it, yet one answers for it"
        net.array.run(f"ip route del local {address} dev lo")
        assert "local" not in net.array.run(arrives, check=False)
        if version == 4:
            assert not net.array.run(leaves, check=False), "refused, and TCP waits for 200 ms"
    finally:
        controller.process.send_signal(signal.SIGCONT)


def test_orders(net_of, control):
    net = net_of()
    controller = control(net)
    controller.order(command="move-vip", port="p3")
    controller.until("moved", address=net.vip, to="p3", cause="order")
    controller.order(command="drain", port="p3")
    controller.until("moved", address=net.data["p3"])
    controller.until("settled")
    assert net.owners(net.vip) == net.owners(net.data["p3"]) == ["a1-p1"]
    controller.order(command="undrain", port="p3")
    controller.until("moved", address=net.vip, to="p3")
    controller.order(command="move-vip")
    controller.until("moved", address=net.vip, to="p1")
    controller.order(command="drain", port="p9")
    assert "p9" in controller.until("refused")["message"]
    controller.order(command="status")
    assert controller.until("status")["owners"][net.vip] == ["p1"]
    assert controller.end() == 0
    assert net.where() == at_home(net), "a controller that ends leaves everything as it is"


def test_sessions_are_counted(net_of, control):
    net = net_of()
    controller = control(net)
    wait = "import socket, sys; s = socket.{}(('{}', 3260)); print(flush=True); {}sys.stdin.read()"
    code = wait.format("create_server", net.data["p3"], "c = s.accept(); ")
    server = subprocess.Popen(
        [*net.array.argv(), sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    server.stdout.readline()
    code = wait.format("create_connection", net.data["p3"], "")
    client = subprocess.Popen(
        [*net.switch.argv(), sys.executable, "-c", code], stdin=subprocess.PIPE
    )
    try:
        chosen = controller.until("redirect", initiator=net.host, address=net.data["p3"])
        assert chosen["address"] in net.answer()
        controller.order(command="status")
        assert controller.until("status")["sessions"] == [[net.host, net.data["p3"], 1]]
    finally:
        for process in (client, server):
            process.stdin.close()
            process.wait(5)
        server.stdout.close()


def test_a_second_controller_is_refused(net_of, control):
    net = net_of()
    control(net)
    second = control(net, settled=False)
    assert second.process.wait(5) == 3
    assert "has a controller already" in second.process.stderr.read()


def test_its_ip_dies_and_is_started_again(net_of, control):
    net = net_of()
    controller = control(net)
    pid = next(e["pid"] for e in controller.events if e["what"] == "started")
    children = f"/proc/{pid}/task/{pid}/children"
    child = Path(children).read_text().split()[0]
    subprocess.run(["kill", "-9", child], check=True)
    controller.until("refused")
    net.switch.run("ip link set s1-p1 down")
    controller.until("moved", address=net.vip)
    controller.until("settled")
    assert net.owners(net.vip) == ["a1-p2"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", [4, 6])
def test_killed_at_every_line_it_converges_when_started_again(net_of, control, version):
    net = net_of(version=version)
    deaths = 0
    for line in range(1, 100):
        net.reset()
        monitor = Monitor(net)
        mortal = control(net, settled=False, **{DIE_AT: str(line)})
        try:
            mortal.until("settled")
            net.switch.run("ip link set s1-p1 down")
            mortal.until("settled")
            survived = True
        except AssertionError:
            survived = False
            assert mortal.process.wait(5) < 0, f"killed itself at line {line}"
            deaths += 1
            net.switch.run("ip link set s1-p1 down")
        else:
            mortal.end()
        after = control(net)
        assert net.where() == {
            net.vip: ["a1-p2"],
            net.data["p1"]: ["a1-p2"],
            net.data["p2"]: ["a1-p2"],
            net.data["p3"]: ["a1-p3"],
        }, f"after line {line}"
        assert net.reachable(net.vip)
        after.end()
        assert monitor.end() == 1, f"two owners at once, line {line}"
        if survived:
            break
    print(f"\nIPv{version}: killed at each of {deaths} lines")
    assert survived
    assert deaths >= 10


def test_it_is_started_within_a_quarter_of_a_second(net_of, control):
    net = net_of()
    begun = time.time()
    controller = control(net)
    took = next(e["t"] for e in controller.events if e["what"] == "settled") - begun
    print(f"\nstarted and settled in {1000 * took:.0f} ms")
    assert took < 1.0


@pytest.mark.timeout(120)
def test_speed(net_of, control):
    """Prints the measured distribution; asserts only what a loaded machine can keep."""
    net = net_of(hold_s=0.05)
    controller = control(net)
    script = REPO / "tests/unit/controller_speed.py"
    argv = [*net.array.argv(), sys.executable, script, str(net.switch.pid), net.vip, "50"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100, cwd=REPO)
    assert done.returncode == 0, done.stderr
    print("\n" + done.stdout)
    assert json.loads(done.stdout)["median_ms"] < 10
    controller.order(command="status")
    controller.until("status")
