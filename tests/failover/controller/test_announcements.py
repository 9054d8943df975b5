"""When the controller announces an address, as a host on the network hears it."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from controller_net import needs_namespaces

from lab.controller.announce import REPEAT_S
from lab.waiting import wait_for

pytestmark = needs_namespaces
ANNOUNCED_S = REPEAT_S[-1] + 0.2
"""After so many seconds what was announced is not repeated any more."""
LISTEN = """
import json, socket
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
print(json.dumps(None), flush=True)
while True:
    frame = raw.recv(256)
    sender, target = frame[28:32], frame[38:42]
    if sender == target:
        print(json.dumps([socket.inet_ntoa(sender), frame[22:28].hex(":")]), flush=True)
"""


class Ear:
    """Who has said which address is his, since `forget`."""

    def __init__(self, net, folder) -> None:
        self._path = folder / "heard"
        self._net, self._from = net, 0
        argv = [*net.switch.argv(), sys.executable, "-c", LISTEN]
        with self._path.open("w") as out:
            self._process = subprocess.Popen(argv, stdout=out)
        wait_for("the ear", self._path.read_text, seconds=5)
        links = json.loads(net.array.run("ip -j link"))
        self._ports = {link["address"]: link["ifname"].removeprefix("a1-") for link in links}

    def heard(self) -> set[tuple[str, str]]:
        lines = self._path.read_text().splitlines()[1 + self._from :]
        return {(a, self._ports.get(mac, mac)) for a, mac in map(json.loads, lines)}

    def forget(self) -> None:
        self._from = len(self._path.read_text().splitlines()) - 1

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def ear_of(tmp_path):
    made = []

    def listen(net):
        made.append(Ear(net, tmp_path))
        return made[-1]

    yield listen
    for ear in made:
        ear.close()


def test_at_the_start_every_address_where_it_is(net_of, control, ear_of):
    net = net_of()
    ear = ear_of(net)
    control(net)
    wanted = {(net.vip, "p1"), *((address, name) for name, address in net.data.items())}
    wait_for("an announcement of each", ear.heard, until=wanted.__eq__, seconds=2)


def test_at_a_move_from_the_new_port_only(net_of, control, ear_of):
    net = net_of(hold_s=60)
    controller = control(net)
    time.sleep(ANNOUNCED_S)  # those of the start are over
    ear = ear_of(net)
    net.switch.run("ip link set s1-p1 down")
    controller.until("moved", address=net.vip)
    wanted = {(net.vip, "p2"), (net.data["p1"], "p2")}
    wait_for("the announcements of the move", ear.heard, until=wanted.__eq__, seconds=2)


def test_at_the_return_of_a_carrier_what_stayed_at_the_port(net_of, control, ear_of):
    """Hosts that could not reach the address meanwhile may have lost, or replaced, its entry."""
    net = net_of(ports=1)
    controller = control(net)
    net.switch.run("ip link set s1-p1 down")
    controller.until("no-port-left")
    time.sleep(ANNOUNCED_S)
    ear = ear_of(net)
    net.switch.run("ip link set s1-p1 up")
    wanted = {(net.vip, "p1"), (net.data["p1"], "p1")}
    wait_for("the announcements of the return", ear.heard, until=wanted.__eq__, seconds=2)


def test_after_a_refusal_it_pauses_longer_each_time(net_of, control):
    net = net_of(version=6, hold_s=60, ports=2)
    controller = control(net)
    net.array.run("echo 1 > /proc/sys/net/ipv6/conf/a1-p2/disable_ipv6")
    begun = time.monotonic()
    net.switch.run("ip link set s1-p1 down")
    controller.until("refused")
    with pytest.raises(AssertionError):
        controller.until("settled", seconds=2.5)
    tries = {round(e["t"], 2) for e in controller.events if e["what"] == "refused"}
    # After 0.05, 0.1, 0.2, 0.5 and then each second.
    assert 3 <= len(tries) <= 8, time.monotonic() - begun
