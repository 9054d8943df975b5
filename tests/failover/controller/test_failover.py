"""Ports that die, loudly or in silence: what the controller notices, and where addresses go."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from controller_net import at_home, needs_namespaces

from lab.waiting import wait_for

pytestmark = needs_namespaces
PROBE = {"interval_ms": 20, "count": 3}


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
