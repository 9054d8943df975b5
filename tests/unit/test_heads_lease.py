"""The leases of heads: arbitrary losses and delays on the way, power cuts that nobody confirms, and
never an address on two heads."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.controller.head_agent import Lease
from lab.controller.heads_planner import Beat, Desired, Memory, Observed, Order, plan

HOMES = {"v": "a", "x": "a", "y": "b"}
WANTED = Desired(("a", "b"), HOMES, dead_s=0.2, unseen_s=0.6, margin_s=0.2)
ALL = frozenset(HOMES)
TICK, LEASE_S = 0.02, 0.5


@dataclass
class Head:
    """A head, whose clock has nothing to do with the controller's. It never hangs."""

    name: str
    clock: float
    lease: Lease | None
    has: set[str] = field(default_factory=set)
    wanted: frozenset[str] = frozenset()
    newest: tuple[int, float] = (0, 0.0)
    stamp: tuple[int, int] = (0, 0)
    applied: tuple[int, int] = (0, 0)

    def take(self, epoch: int, sent: float, order: Order | None, grant: float | None) -> None:
        if (epoch, sent) <= self.newest:
            return
        self.newest = epoch, sent
        if grant is not None and self.lease:
            self.lease.renewed(1, int((grant + self.clock) * 1e9))
        if order and (epoch, order.number) >= self.stamp:
            self.stamp, self.wanted = (epoch, order.number), order.addresses

    def work(self, now: float) -> None:
        holds = self.lease is None or self.lease.holds(now + self.clock)
        self.has = set(self.wanted) if holds else set()
        self.applied = self.stamp


class World:
    """Frames are on the way for as long as `delay` says, or are lost; no power is ever cut."""

    def __init__(self, lease: bool = True) -> None:
        self.now, self.epoch = 100.0, 1
        self.heads = {
            name: Head(name, clock, Lease(LEASE_S, 1) if lease else None)
            for name, clock in (("a", 5000.0), ("b", -50.0))
        }
        self.memory = Memory(self.now)
        self.beats: dict[str, Beat] = {}
        self.sent: dict[str, tuple[float, float]] = {}  # last beat taken: when sent, when received
        self.leased = dict.fromkeys(self.heads, self.now + LEASE_S)
        self.way: list[tuple[float, str, tuple]] = []
        self.delay: dict[tuple[str, str], float | None] = {}

    def restart_controller(self) -> None:
        self.epoch += 1
        self.memory, self.beats, self.sent = Memory(self.now), {}, {}
        self.leased = dict.fromkeys(self.heads, self.now + LEASE_S)

    def send(self, direction: str, head: str, frame: tuple) -> None:
        delay = self.delay.get((direction, head), 0.0)
        if delay is not None:
            self.way.append((self.now + delay, direction + head, frame))

    def tick(self) -> None:
        self.now += TICK
        for name, head in self.heads.items():
            self.send(
                "from ", name,
                (self.now, head.newest, frozenset(head.has), head.applied),
            )  # fmt: skip
        for due, where, frame in list(self.way):
            if due <= self.now and where.startswith("from "):
                self.way.remove((due, where, frame))
                self.hear(where[5:], *frame)
        observed = Observed(self.now, dict(self.beats), {}, (), dict(self.leased))
        self.memory, _ = plan(WANTED, observed, self.memory)
        for name in self.heads:
            grant = None
            if name in self.sent and self.memory.states[name] in ("up", "dark"):
                grant, received = self.sent[name]
                self.leased[name] = max(self.leased[name], received + LEASE_S)
            frame = (self.epoch, self.now, self.memory.orders.get(name), grant)
            self.send("to ", name, frame)
        for due, where, frame in list(self.way):
            if due <= self.now and where.startswith("to "):
                self.way.remove((due, where, frame))
                self.heads[where[3:]].take(*frame)
        for head in self.heads.values():
            head.work(self.now)
        for address in HOMES:
            owners = [h.name for h in self.heads.values() if address in h.has]
            assert len(owners) < 2, f"{address} is on {owners}"

    def hear(self, name: str, sent: float, answers: tuple[int, float], has, applied) -> None:
        if answers[0] != self.epoch or (name in self.sent and sent <= self.sent[name][0]):
            return
        self.sent[name] = sent, self.now
        number = applied[1] if applied[0] == self.epoch else 0
        self.beats[name] = Beat(answers[1], "1", has, number)

    def ticks(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            self.tick()

    def cut_off(self, name: str) -> None:
        self.delay["to ", name] = self.delay["from ", name] = None


def test_a_head_that_is_cut_off_gives_up_before_the_other_takes_over():
    world = World()
    world.ticks(1.0)
    assert world.heads["a"].has == {"v", "x"}
    world.cut_off("a")
    world.ticks(LEASE_S + 0.1)
    assert (world.heads["a"].has, world.heads["b"].has) == (set(), {"y"})
    world.ticks(WANTED.margin_s)
    assert world.heads["b"].has == ALL


@pytest.mark.parametrize("direction", ["to ", "from "])
def test_a_head_that_is_cut_off_one_way_gives_up_too(direction):
    world = World()
    world.ticks(1.0)
    world.delay[direction, "a"] = None
    world.ticks(2.0)
    assert (world.heads["a"].has, world.heads["b"].has) == (set(), ALL)


def test_a_controller_that_is_started_again_takes_no_address_from_anyone():
    world = World()
    world.ticks(1.0)
    world.restart_controller()
    for _ in range(100):
        world.tick()
        assert world.heads["a"].has == {"v", "x"}


def test_all_heads_cut_off_give_up_and_take_their_addresses_again():
    world = World()
    world.ticks(1.0)
    for name in world.heads:
        world.cut_off(name)
    world.ticks(3.0)
    assert not world.heads["a"].has | world.heads["b"].has
    world.delay.clear()
    world.ticks(1.0)
    assert world.heads["a"].has | world.heads["b"].has == ALL


def test_control_without_leases_both_have_them():
    world = World(lease=False)
    world.ticks(1.0)
    world.cut_off("a")
    with pytest.raises(AssertionError, match="is on"):
        world.ticks(3.0)


def test_a_lease_runs_from_the_heartbeat_and_never_gets_shorter():
    lease = Lease(2.0, boot=7)
    assert not lease.holds(0.0)
    lease.renewed(7, 10 * 10**9)
    lease.renewed(7, 9 * 10**9)  # an answer that was late
    lease.renewed(8, 99 * 10**9)  # one to another boot
    assert (lease.holds(11.9), lease.holds(12.0)) == (True, False)


DELAYS = st.sampled_from([0.0, 0.0, TICK, 0.1, 0.3, 0.7, 2.0, None])
EVENTS = st.one_of(
    st.tuples(st.sampled_from(["to ", "from "]), st.sampled_from("ab"), DELAYS),
    st.just("restart"),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(EVENTS, st.integers(1, 40)), max_size=25))
def test_never_two_owners_whatever_is_late_or_lost(story):
    world = World()
    world.ticks(0.5)
    for event, ticks in story:
        if event == "restart":
            world.restart_controller()
        else:
            world.delay[event[:2]] = event[2]
        for _ in range(ticks):
            world.tick()
    world.delay.clear()
    world.ticks(5.0)
    assert world.heads["a"].has | world.heads["b"].has == ALL
