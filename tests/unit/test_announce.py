"""Announcements: what is sent when, and where; over pairs of sockets instead of cables."""

from __future__ import annotations

import socket

import pytest

from lab.controller import frames
from lab.controller.announce import REPEAT_S, Announcer

MACS = {"p1": bytes.fromhex("020000000001"), "p2": bytes.fromhex("020000000002")}
VIRTUAL = "10.0.0.1"


class Wire:
    """An announcer with two ports, and what comes out of them."""

    def __init__(self) -> None:
        self.announcer = Announcer()
        self._ends: dict[str, socket.socket] = {}
        for number, (name, mac) in enumerate(MACS.items()):
            ours, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            ours.setblocking(False)
            end.setblocking(False)
            self.announcer._sockets[name], self.announcer._macs[name] = (number, ours), mac
            self._ends[name] = end

    def heard(self) -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        for name, end in self._ends.items():
            while True:
                try:
                    frame = end.recv(256)
                except BlockingIOError:
                    break
                found.setdefault(name, []).append(frame)
        return found

    def deaf(self, name: str) -> None:
        self._ends[name].close()

    def close(self) -> None:
        for end in self._ends.values():
            end.close()
        for name in MACS:
            self.announcer.port(name, None)


@pytest.fixture
def wire():
    made = Wire()
    yield made
    made.close()


def at(port: str, address: str = VIRTUAL) -> dict[str, list[bytes]]:
    return {port: frames.announcements(address, MACS[port])}


def owners(**ports: str) -> dict[str, frozenset[str]]:
    return {VIRTUAL: frozenset(ports.values())}


def test_at_once_and_at_each_of_the_times_after(wire):
    wire.announcer.announce(VIRTUAL, "p1", 100.0)
    assert wire.heard() == at("p1")
    for after in REPEAT_S:
        assert wire.announcer.next_due() == 100.0 + after
        wire.announcer.repeat(100.0 + after - 0.001, owners(here="p1"))
        assert wire.heard() == {}
        wire.announcer.repeat(100.0 + after, owners(here="p1"))
        assert wire.heard() == at("p1")
    assert wire.announcer.next_due() is None


def test_one_repetition_is_after_the_lock_time_of_a_neighbour_entry():
    assert any(1.0 < after < 1.5 for after in REPEAT_S)


def test_none_after_the_address_has_left(wire):
    wire.announcer.announce(VIRTUAL, "p1", 100.0)
    wire.heard()
    wire.announcer.repeat(200.0, owners(there="p2"))
    wire.announcer.repeat(300.0, {})
    assert wire.heard() == {}
    assert wire.announcer.next_due() is None


def test_a_move_ends_the_repetitions_of_this_address_and_of_no_other(wire):
    wire.announcer.announce(VIRTUAL, "p1", 100.0)
    wire.announcer.announce("10.0.0.11", "p1", 100.0)
    wire.announcer.announce(VIRTUAL, "p2", 100.0)
    wire.heard()
    both = {VIRTUAL: frozenset({"p1", "p2"}), "10.0.0.11": frozenset({"p1"})}
    wire.announcer.repeat(100.0 + REPEAT_S[0], both)
    assert wire.heard() == at("p2") | at("p1", "10.0.0.11")


def test_a_port_that_is_gone_and_a_full_one_are_no_error(wire):
    wire.announcer.announce(VIRTUAL, "p9", 100.0)
    wire.deaf("p1")
    wire.announcer.announce(VIRTUAL, "p1", 100.0)
    wire.announcer.port("p2", None)
    wire.announcer.announce(VIRTUAL, "p2", 100.0)
    assert wire.announcer.next_due() == 100.0 + REPEAT_S[0]


def test_a_port_with_another_card_announces_the_new_mac(wire):
    wire.announcer.announce(VIRTUAL, "p1", 100.0)
    first = wire.announcer._sockets["p1"]
    wire.announcer.port("p1", None)
    wire.announcer._sockets["p1"] = wire.announcer._sockets["p2"]
    wire.announcer._macs["p1"] = MACS["p2"]
    assert first[1].fileno() == -1, "its socket is closed"
    wire.heard()
    wire.announcer.announce(VIRTUAL, "p1", 100.0)
    assert wire.heard() == at("p2")
    wire.announcer._sockets.pop("p1")  # one socket, closed once
