"""The planner of dual-head arrays: rules, and arbitrary sequences with no address on two heads."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from lab.controller.heads_planner import (
    Beat,
    Desired,
    Fence,
    Memory,
    NoHeadLeft,
    Observed,
    Order,
    plan,
)

HOMES = {"v": "a", "x": "a", "y": "b"}
WANTED = Desired(("a", "b"), HOMES)
ALL = frozenset(HOMES)
TICK = 0.02


@dataclass
class Kernel:
    """A head: what it has, its latest order, and orders that are still on their way to it."""

    boot: int = 1
    on: bool = True
    heard: bool = True
    cable: bool = True
    live: bool = True
    hung: bool = False
    has: set[str] = field(default_factory=set)
    latest: int = 0
    applied: int = 0
    coming: list[Order] = field(default_factory=list)

    def work(self) -> None:
        """Take the orders that have arrived, as the agent does: none that is older."""
        if not self.on or self.hung:
            return
        for order in self.coming:
            if order.number >= self.latest:
                self.latest = self.applied = order.number
                self.has = set(order.addresses)
        self.coming.clear()


class World:
    def __init__(self, desired: Desired = WANTED) -> None:
        self.desired = desired
        self.now = 100.0
        self.heads = {name: Kernel() for name in desired.heads}
        self.memory = Memory(self.now)
        self.beats: dict[str, Beat] = {}
        self.off: dict[str, str] = {}
        self.to_cut: list[str] = []
        self.told: list[object] = []

    def tick(self, *, orders_arrive: bool = True, cuts: bool = True) -> None:
        self.now += TICK
        for name, head in self.heads.items():
            if head.on and head.heard and head.cable and not head.hung:
                self.beats[name] = Beat(
                    self.now, str(head.boot), frozenset(head.has), head.applied, head.live
                )
                if self.off.get(name, str(head.boot)) != str(head.boot):
                    del self.off[name]
        dark = {name for name, head in self.heads.items() if not (head.on and head.cable)}
        self.memory, actions = plan(
            self.desired, Observed(self.now, dict(self.beats), dict(self.off), dark), self.memory
        )
        self.told += actions
        self.to_cut += [a.head for a in actions if isinstance(a, Fence)]
        for name, order in self.memory.orders.items():
            if self.heads[name].heard and self.heads[name].cable:
                self.heads[name].coming.append(order)
        if cuts:
            for name in self.to_cut:
                self.cut(name)
                beat = self.beats.get(name)
                self.off[name] = beat.boot if beat else ""
            self.to_cut.clear()
        if orders_arrive:
            for head in self.heads.values():
                head.work()
        self.check()

    def cut(self, name: str) -> None:
        old = self.heads[name]
        self.heads[name] = Kernel(
            boot=old.boot, on=False, heard=old.heard, cable=old.cable, live=old.live
        )

    def boot(self, name: str) -> None:
        if not self.heads[name].on:
            old = self.heads[name]
            self.heads[name] = Kernel(
                boot=old.boot + 1, heard=old.heard, cable=old.cable, live=old.live
            )

    def owners(self, address: str) -> list[str]:
        return [name for name, head in self.heads.items() if address in head.has]

    def check(self) -> None:
        for address in self.desired.homes:
            assert len(self.owners(address)) <= 1, (address, self.told)

    def ticks(self, count: int) -> None:
        for _ in range(count):
            self.tick()

    def restart_controller(self) -> None:
        for head in self.heads.values():
            head.latest = head.applied = 0  # orders of another epoch are not counted
            head.coming.clear()
        self.memory, self.beats = Memory(self.now), {}


def test_addresses_go_home_at_first():
    world = World()
    world.ticks(5)
    assert world.heads["a"].has == {"v", "x"}
    assert world.heads["b"].has == {"y"}
    assert world.told == []


def test_silent_head_is_cut_before_its_addresses_move():
    world = World()
    world.ticks(5)
    world.heads["a"].heard = False
    for _ in range(20):
        world.tick(cuts=False)
    assert [a for a in world.told if isinstance(a, Fence)] == [Fence("a", "lost", "1")]
    assert world.owners("v") == ["a"]
    assert world.heads["b"].has == {"y"}  # and it keeps what it has
    world.ticks(3)
    assert world.heads["b"].has == ALL


def test_a_dark_management_link_counts_at_once():
    world = World()
    world.ticks(5)
    world.heads["a"].cable = False
    world.tick(cuts=False)
    assert world.told == [Fence("a", "lost", "1")]
    assert world.owners("v") == ["a"]
    world.ticks(2)
    assert world.heads["b"].has == ALL


def test_all_management_links_dark_and_no_head_is_cut():
    world = World()
    world.ticks(5)
    for head in world.heads.values():
        head.cable = False
    world.ticks(50)
    assert world.told == [NoHeadLeft()]
    assert world.heads["a"].has == {"v", "x"}


def test_nothing_goes_home_by_itself():
    world = World()
    world.ticks(5)
    world.cut("a")
    world.ticks(20)
    world.boot("a")
    world.ticks(100)
    assert world.heads["b"].has == ALL
    assert len(world.told) == 1


def test_a_head_without_data_port_gives_up_and_lives():
    world = World()
    world.ticks(5)
    world.heads["a"].live = False
    world.ticks(5)
    assert world.heads["b"].has == ALL
    assert world.heads["a"].on
    assert world.told == []


def test_a_hung_head_without_data_port_is_cut():
    world = World()
    world.ticks(5)
    world.heads["a"].live = False
    world.tick(orders_arrive=False)
    world.heads["a"].coming.clear()
    for _ in range(60):  # it speaks, but does not do what it is told
        world.tick(orders_arrive=False, cuts=False)
        world.heads["b"].work()
    assert Fence("a", "late", "1") in world.told
    assert world.owners("v") == ["a"]


def test_no_head_heard_no_head_cut():
    world = World()
    world.ticks(5)
    for head in world.heads.values():
        head.heard = False
    world.ticks(200)
    assert world.told == [NoHeadLeft()]
    for head in world.heads.values():
        head.heard = True
    world.ticks(5)
    assert world.heads["a"].has == {"v", "x"}


def test_a_new_controller_leaves_addresses_where_they_are():
    world = World()
    world.ticks(5)
    world.cut("a")
    world.ticks(20)
    world.boot("a")
    world.ticks(5)
    world.restart_controller()
    world.ticks(50)
    assert world.heads["b"].has == ALL


def test_control_without_fencing_both_have_them():
    world = World(replace(WANTED, fencing=False))
    world.ticks(5)
    world.heads["a"].heard = False
    try:
        world.ticks(50)
    except AssertionError:
        return
    raise AssertionError("two owners were not noticed")


EVENTS = st.sampled_from(
    [
        f"{what} {head}"
        for head in "ab"
        for what in (
            *("cut", "boot", "unheard", "heard", "pulled", "plugged"),
            *("dark", "live", "hang", "wake"),
        )
    ]
    + ["restart", "no-orders", "no-cuts", "wait"]
)


def disturb(world: World, event: str) -> None:
    what, _, name = event.partition(" ")
    if what in ("cut", "boot"):
        getattr(world, what)(name)
    elif name:
        head = world.heads[name]
        head.heard = {"unheard": False, "heard": True}.get(what, head.heard)
        head.cable = {"pulled": False, "plugged": True}.get(what, head.cable)
        head.live = {"dark": False, "live": True}.get(what, head.live)
        head.hung = {"hang": True, "wake": False}.get(what, head.hung)
    elif what == "restart":
        world.restart_controller()
    elif what == "wait":
        world.ticks(10)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(EVENTS, st.integers(1, 12)), max_size=25))
def test_never_two_owners_and_it_converges(story):
    world = World()
    world.ticks(5)
    for event, ticks in story:
        disturb(world, event)
        for _ in range(ticks):
            world.tick(orders_arrive=event != "no-orders", cuts=event != "no-cuts")
    for name, head in world.heads.items():
        head.heard = head.live = head.cable = True
        head.hung = False
        world.boot(name)
    world.ticks(400)
    for name in world.heads:
        world.boot(name)
    world.ticks(400)
    assert {a for head in world.heads.values() for a in head.has} == ALL
