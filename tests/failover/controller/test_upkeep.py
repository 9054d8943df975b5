"""The controller between failovers: repairs, orders, sessions, and its own death and start."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from controller_net import REPO, Monitor, at_home, needs_namespaces

from lab.controller.addresses import DIE_AT
from lab.waiting import wait_for

pytestmark = needs_namespaces


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
        settled = False
        try:
            mortal.until("settled")
            settled = True
            net.switch.run("ip link set s1-p1 down")
            mortal.until("settled")
            survived = True
        except AssertionError:
            survived = False
            assert mortal.process.wait(5) < 0, f"killed itself at line {line}"
            deaths += 1
            if settled:
                assert net.data["p2"] in net.answer(), "logins are steered before an address moves"
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


def test_it_is_started_within_a_second(net_of, control):
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
    script = Path(__file__).with_name("controller_speed.py")
    argv = [*net.array.argv(), sys.executable, script, str(net.switch.pid), net.vip, "50"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100, cwd=REPO)
    assert done.returncode == 0, done.stderr
    print("\n" + done.stdout)
    assert json.loads(done.stdout)["median_ms"] < 10
    controller.order(command="status")
    controller.until("status")
