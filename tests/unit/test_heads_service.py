"""The controller of heads and the agent of a head, over datagrams on the loopback interface."""

from __future__ import annotations

import itertools
import json
import os
import socket

import pytest

from lab.controller.head_agent import Agent
from lab.controller.heads import Service
from lab.controller.netlink import Link
from lab.controller.output import Output
from lab.waiting import wait_for

NUMBERS = itertools.count(1)
HOMES = {"10.0.0.1": "a", "10.0.0.2": "b"}


def udp(address: str, port: int = 0) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, port))
    sock.setblocking(False)
    return sock


class Heads:
    """Two heads that are sockets of this test, and the real service of the controller."""

    def __init__(self) -> None:
        self.sockets = {"a": udp("127.0.0.2"), "b": udp("127.0.0.3")}
        free = udp("127.0.0.1")
        self._controller = free.getsockname()
        free.close()
        read, write = os.pipe()
        self._told, self._pipe = read, write
        content = {
            "heads": {name: list(s.getsockname()) for name, s in self.sockets.items()},
            "links": {name: f"no-such-{name}" for name in self.sockets},
            "homes": HOMES,
            "listen": list(self._controller),
            "interval_ms": 20,
            "count": 5000,
        }
        self.service = Service(content, Output("a1", write))

    def beat(self, head: str, has: list[str], **changes) -> None:
        """A heartbeat of `head` reaches the controller."""
        told = {"head": head, "boot": "1", "addresses": has, "epoch": 0, "applied": 0,
                "live": True, "connections": [], **changes}  # fmt: skip
        before = self.service._beats.get(head)
        self.sockets[head].sendto(json.dumps(told).encode(), self._controller)

        def heard() -> bool:
            self.service._hear()
            return self.service._beats.get(head) is not before

        wait_for(f"the heartbeat of {head}", heard, seconds=5, every=0.001)

    def plan(self) -> dict[str, dict]:
        """Plan once; the orders that the heads got."""
        self.service._plan()
        self.service._send()
        return {name: json.loads(s.recv(1 << 16)) for name, s in self.sockets.items()}

    def events(self) -> list[str]:
        self.service.output.flush()
        os.set_blocking(self._told, False)
        try:
            lines = os.read(self._told, 1 << 16).splitlines()
        except BlockingIOError:
            return []
        return [json.loads(line)["what"] for line in lines]

    def close(self) -> None:
        for sock in (*self.sockets.values(), self.service._socket, self.service._kernel):
            sock.close()
        os.close(self._told)
        os.close(self._pipe)


@pytest.fixture
def heads():
    made = Heads()
    yield made
    made.close()


def test_an_acknowledgement_counts_only_if_it_is_for_this_controllers_orders(heads):
    heads.beat("a", ["10.0.0.1"])
    heads.beat("b", ["10.0.0.2"])
    epoch = heads.plan()["a"]["epoch"]
    for head, has in (("a", ["10.0.0.1"]), ("b", ["10.0.0.2"])):
        heads.beat(head, has, epoch=epoch, applied=9)
    # Head a loses its data port, and gives its address up: it says so for an earlier epoch.
    heads.beat("a", ["10.0.0.1"], epoch=epoch, applied=9, live=False)
    first = heads.plan()
    assert first["a"]["addresses"] == []
    assert first["b"]["addresses"] == ["10.0.0.2"]
    heads.beat("a", [], epoch=epoch - 1, applied=9, live=False)
    assert heads.plan()["b"]["addresses"] == ["10.0.0.2"], "an older order may still give it back"
    heads.beat("a", [], epoch=epoch, applied=first["a"]["number"], live=False)
    assert heads.plan()["b"]["addresses"] == ["10.0.0.1", "10.0.0.2"]


def test_a_dark_management_link_is_a_lost_head_at_once(heads):
    for head, has in (("a", ["10.0.0.1"]), ("b", ["10.0.0.2"])):
        heads.beat(head, has)
    heads.plan()
    assert "fence" not in heads.events()
    heads.service._links([Link(7, "no-such-a", bytes(6), up=True, live=False)])
    heads.service._plan()
    assert "fence" in heads.events()


def test_a_link_that_is_back_is_not_dark_and_others_are_nobodys(heads):
    for head, has in (("a", ["10.0.0.1"]), ("b", ["10.0.0.2"])):
        heads.beat(head, has)
    for name, live in (("no-such-a", False), ("no-such-a", True), ("other", False)):
        heads.service._links([Link(7, name, bytes(6), up=True, live=live)])
    heads.service._plan()
    assert "fence" not in heads.events()


@pytest.fixture
def agent():
    free, controller = udp("127.0.0.4"), udp("127.0.0.1")
    listen = free.getsockname()
    free.close()
    made = Agent(
        {
            "array": "a1",
            "head": "a",
            "heads": ["a", "b"],
            "initiators": [],
            "ports": [{"name": "a", "interface": "no-such-a"}],
            "addresses": [{"address": f"{a}/24", "home": "a", "virtual": False} for a in HOMES],
            "listen": list(listen),
            "controller": list(controller.getsockname()),
            "interval_ms": 20,
        }
    )
    yield made, controller, listen
    made._hands.close()
    for sock in (controller, made._socket):
        sock.close()


def test_an_agent_follows_no_order_older_than_its_last(agent):
    it, controller, listen = agent

    def hears(epoch: int, number: int, *addresses: str) -> frozenset[str] | None:
        order = {"epoch": epoch, "number": number, "addresses": addresses, "connections": []}
        controller.sendto(json.dumps(order).encode(), listen)
        it._hear()
        return it._wanted

    one, two = HOMES
    assert hears(5, 2, one) == {one}
    assert hears(5, 1, two) == {one}, "a late one of the same controller"
    assert hears(4, 9, two) == {one}, "one of an earlier controller"
    assert hears(5, 2, one) == {one}, "the same again"
    assert hears(5, 3) == frozenset()
    assert hears(6, 1, two) == {two}, "the first one of a new controller"
