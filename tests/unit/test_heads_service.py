"""The controller of heads on loopback: what heads say counts, what others say does not."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.controller.head_agent import Agent, order_of
from lab.controller.heads import Service
from lab.controller.heads_planner import Fence
from lab.controller.netlink import Link
from lab.controller.output import Output
from lab.controller.sealed import BEAT, CONTROLLER, ORDER, Frame, Refused, opened, seal

KEY = b"k" * 32
HOMES = {"10.0.0.1": "a", "10.0.0.12": "b"}


class Peer:
    """A head's agent, by hand: it hears and says what the test wants."""

    def __init__(self, number: int, name: str, boot: int, has: list[str]) -> None:
        self.number, self.name, self.boot, self.has = number, name, boot, has
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(2.0)
        self.heard = Frame(0, 0, 0, b"")
        self.order: dict = {}
        self.said: list[bytes] = []

    def hear(self) -> None:
        """Take all frames that are waiting; the last one counts."""
        self.socket.setblocking(False)
        while True:
            try:
                self.heard = opened(KEY, ORDER, self.socket.recv(1 << 16))
            except BlockingIOError:
                break
        self.order = json.loads(self.heard.body or b"{}")

    def beat(self, **changes: object) -> bytes:
        beat = {
            "answers": [self.heard.boot, self.heard.number], "addresses": self.has, "live": True,
            "epoch": self.heard.boot, "applied": self.order.get("number") or 0, "connections": [],
            **changes,
        }  # fmt: skip
        frame = Frame(self.number, self.boot, time.monotonic_ns(), json.dumps(beat).encode())
        self.said.append(seal(KEY, BEAT, frame))
        return self.said[-1]


class World:
    def __init__(self) -> None:
        self.a, self.b = Peer(0, "a", 1, ["10.0.0.1"]), Peer(1, "b", 1, ["10.0.0.12"])
        end, self.typed = os.pipe()
        os.close(end)
        self.out = Path(os.devnull).open("wb")  # noqa: SIM115
        content = {
            "array": "a1", "heads": {p.name: p.socket.getsockname() for p in (self.a, self.b)},
            "links": {"a": "no-such-a", "b": "no-such-b"}, "homes": HOMES,
            "listen": ["127.0.0.1", 0], "interval_ms": 20,
            "count": 10, "lease_ms": 600, "lease_margin_ms": 200,
        }  # fmt: skip
        self.service = Service(content, KEY, Output("a1", self.out.fileno()))
        self.to = self.service._socket.getsockname()
        self.fences: list[Fence] = []
        self.rounds(3)

    def send(self, data: bytes) -> None:
        self.a.socket.sendto(data, self.to)

    def step(self) -> None:
        """What run() does at each turn."""
        self.service._hear()
        self.service._plan()
        self.service._send()

    def rounds(self, count: int, *who: Peer) -> None:
        for _ in range(count):
            self.step()
            for peer in who or (self.a, self.b):
                peer.hear()
                peer.socket.sendto(peer.beat(), self.to)
            self.step()

    def states(self) -> dict[str, str]:
        return dict(self.service._memory.states)

    def told(self, what: str) -> list[dict]:
        return [e for e in self.service.output._events if e["what"] == what]

    def close(self) -> None:
        for one in (self.a.socket, self.b.socket, self.service._socket, self.service._kernel):
            one.close()
        self.out.close()
        os.close(self.typed)


@pytest.fixture
def world():
    made = World()
    assert made.states() == {"a": "up", "b": "up"}
    yield made
    made.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.binary(max_size=200))
def test_no_datagram_ends_it_or_changes_anything(world, data):
    before = dict(world.service._beats)
    world.send(data)
    world.service._hear()
    assert world.service._beats == before


def test_what_is_refused_is_told_once_a_second(world):
    for _ in range(50):
        world.send(b"{")
    world.service._hear()
    assert world.service._rejected.report(time.monotonic()) == {"too short": 50}


def test_heartbeats_that_are_played_again_keep_no_dead_head_alive(world):
    world.rounds(5)
    said = list(world.a.said)
    until = time.monotonic() + 0.4
    while time.monotonic() < until:
        for data in said:
            world.send(data)
        world.rounds(1, world.b)
        time.sleep(0.01)
    assert world.states() == {"a": "lost", "b": "up"}
    (fence,) = world.told("fence")
    assert (fence["head"], fence["boot"]) == ("a", f"{1:016x}")


def test_heartbeats_of_an_earlier_boot_make_no_live_head_look_dead(world):
    said = list(world.a.said)
    world.a.boot = 2
    world.rounds(2)
    for data in said:
        world.send(data)
    world.step()
    assert world.service._beats["a"].boot == f"{2:016x}"
    assert world.states()["a"] == "up"


def test_a_new_controller_believes_no_heartbeat_of_before():
    first = World()
    said = list(first.a.said)
    second = World()
    try:
        second.service._beats.clear()
        second.service._heard.clear()
        for data in said:
            second.send(data)
        second.service._hear()
        assert not second.service._beats
    finally:
        first.close()
        second.close()


def fenced(world: World, boot: int) -> None:
    world.service._obey({"command": "fenced", "head": "a", "boot": f"{boot:016x}"})


def test_the_confirmation_of_an_earlier_power_cut_does_not_count(world):
    world.a.boot = 2
    world.rounds(2)
    with pytest.raises(ValueError, match="has booted since"):
        fenced(world, 1)
    world.step()
    assert world.states()["a"] == "up"
    fenced(world, 2)
    world.step()
    assert world.states()["a"] == "off"


def test_a_lease_is_granted_only_to_a_head_that_is_heard(world):
    assert world.a.order["grant"] == [1, opened(KEY, BEAT, world.a.said[-2]).number]
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        world.rounds(1, world.b)
        time.sleep(0.01)
    world.a.hear()
    assert world.a.order["grant"] is None
    assert "10.0.0.1" not in world.service._memory.orders["b"].addresses  # it may still have it
    until = time.monotonic() + 0.8
    while time.monotonic() < until:
        world.rounds(1, world.b)
        time.sleep(0.01)
    assert "10.0.0.1" in world.service._memory.orders["b"].addresses


def test_an_acknowledgement_counts_only_if_it_is_for_this_controllers_orders(world):
    """Head a loses its data port and gives its address up, but says so for an earlier epoch."""
    a, b = world.a, world.b

    def says(peer: Peer, **changes: object) -> None:
        peer.hear()
        peer.socket.sendto(peer.beat(**changes), world.to)
        world.step()

    says(a, live=False)
    a.hear()
    assert a.order["addresses"] == []
    a.has = []
    says(a, live=False, epoch=a.heard.boot - 1)
    b.hear()
    assert b.order["addresses"] == ["10.0.0.12"], "an older order may still give it back to a"
    says(a, live=False)
    world.step()
    b.hear()
    assert sorted(b.order["addresses"]) == ["10.0.0.1", "10.0.0.12"]


def test_a_dark_management_link_is_a_lost_head_at_once(world):
    world.service._links([Link(7, "no-such-a", bytes(6), up=True, live=False)])
    world.service._plan()
    assert world.states() == {"a": "lost", "b": "up"}


def test_a_link_that_is_back_is_not_dark_and_others_are_nobodys(world):
    for name, live in (("no-such-a", False), ("no-such-a", True), ("other", False)):
        world.service._links([Link(7, name, bytes(6), up=True, live=live)])
    world.service._plan()
    assert world.states() == {"a": "up", "b": "up"}


@pytest.fixture
def agent():
    controller = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    controller.bind(("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.4", 0))
        listen = free.getsockname()
    content = {
        "array": "a1", "head": "a", "heads": ["a", "b"], "initiators": [], "lease_ms": 600,
        "ports": [{"name": "a", "interface": "no-such-a"}],
        "addresses": [{"address": f"{a}/24", "home": "a", "virtual": False} for a in HOMES],
        "listen": [*listen], "controller": [*controller.getsockname()], "interval_ms": 20,
    }  # fmt: skip
    made = Agent(content, KEY)
    yield made, controller, listen
    made._hands.close()
    for sock in (controller, made._socket):
        sock.close()


def test_an_agent_follows_no_order_older_than_its_last(agent):
    it, controller, listen = agent

    def hears(boot: int, number: int, order: int, *addresses: str) -> frozenset[str] | None:
        body = {"to": "a", "grant": None, "number": order, "addresses": addresses,
                "connections": []}  # fmt: skip
        frame = Frame(CONTROLLER, boot, number, json.dumps(body).encode())
        controller.sendto(seal(KEY, ORDER, frame), listen)
        it._hear()
        return it._wanted

    one, two = HOMES
    assert hears(5, 20, 2, one) == {one}
    assert hears(5, 21, 1, two) == {one}, "an older order in a newer frame"
    assert hears(5, 19, 3, two) == {one}, "a late frame of the same controller"
    assert hears(4, 99, 9, two) == {one}, "one of an earlier controller"
    assert hears(5, 22, 3) == frozenset()
    assert hears(6, 1, 1, two) == {two}, "the first one of a new controller"


def test_an_order_is_for_the_head_that_it_names_and_of_the_controller():
    body = json.dumps({"to": "b"}).encode()
    for frame in (Frame(CONTROLLER, 5, 1, body), Frame(1, 5, 1, body)):
        with pytest.raises(Refused):
            order_of(frame, "a", (0, 0))
    assert order_of(Frame(CONTROLLER, 5, 1, body), "b", (0, 0)) == {"to": "b"}
