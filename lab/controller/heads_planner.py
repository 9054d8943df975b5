"""What the controller of a dual-head array does next: a pure function, like planner.py for ports.

Rules. A head that is silent, or whose management link is dark, loses power before another head
gets its addresses: it may still be alive. If the power cut is not confirmed, another head gets them
when the lease of the first one is surely out: it has given them up by then (head_agent.py). A head
that is heard but has no live data port is told to give up its addresses; it loses power if it does
not confirm in time. An address goes to the next head in the order of the configuration and stays
there: moves break connections, so an address goes home only by order. The last head that can serve
never loses power. If no head is heard, as when the management network fails, nothing is done: the
heads give up their addresses by their leases, and take them again when they are heard.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

State = Literal["unseen", "up", "dark", "lost", "off"]


@dataclass(frozen=True)
class Beat:
    """The last heartbeat of a head, from its boot `boot`.

    `t`: when the controller sent what the heartbeat answers (monotonic seconds). So a head is heard
    only if it hears the controller.
    `addresses`: those of its kernel. `applied`: the number of the last order that it carried out;
    it ignores orders with a lower number. `live`: its data port works.
    """

    t: float
    boot: str
    addresses: frozenset[str]
    applied: int = 0
    live: bool = True


@dataclass(frozen=True)
class Desired:
    """`heads` in takeover order; `homes`: address to head. `fencing` False is for controls only.

    In seconds: a head is lost after `dead_s` of silence, or `unseen_s` after the start if it was
    never heard. It has `release_s` to give up an address. A power cut that is not confirmed is
    asked for again after `again_s`. `margin_s` after the end of its lease a head has no address.
    """

    heads: tuple[str, ...]
    homes: Mapping[str, str]
    fencing: bool = True
    dead_s: float = 0.1
    unseen_s: float = 3.0
    release_s: float = 0.5
    again_s: float = 2.0
    margin_s: float = 1.0


@dataclass(frozen=True)
class Observed:
    """What is known at `now` (monotonic seconds).

    `beats`: the last heartbeat of each head. `off`: the boot of each head whose power was cut.
    `dark`: the heads whose management link is dark. `leased`: when the lease of each head ends at
    the latest; without an entry, never.
    """

    now: float
    beats: Mapping[str, Beat]
    off: Mapping[str, str] = field(default_factory=dict)
    dark: Collection[str] = ()
    leased: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Order:
    """The addresses that a head should have; `number` rises with each change."""

    number: int
    addresses: frozenset[str]


@dataclass(frozen=True)
class Fence:
    """Cut the power of `head`; `cause`: "lost" (its state) or "late" (did not release in time).

    `boot` is the boot to end, empty if none was heard.
    """

    head: str
    cause: str
    boot: str = ""


@dataclass(frozen=True)
class NoHeadLeft:
    """No head can serve; nothing is done until one can."""


Action = Fence | NoHeadLeft


@dataclass(frozen=True)
class Memory:
    """What the planner remembers from one plan to the next; empty after a restart.

    `placed`: the head that each address belongs on. `asked`: when a power cut was asked for that is
    not confirmed yet. `blocked`: since when a head holds an address of another one.
    """

    started: float
    states: Mapping[str, State] = field(default_factory=dict)
    placed: Mapping[str, str] = field(default_factory=dict)
    orders: Mapping[str, Order] = field(default_factory=dict)
    asked: Mapping[str, float] = field(default_factory=dict)
    blocked: Mapping[str, float] = field(default_factory=dict)
    none_left: bool = False
    number: int = 0


def plan(desired: Desired, observed: Observed, memory: Memory) -> tuple[Memory, list[Action]]:
    """The actions to take now, and the order for every head (`Memory.orders`).

    A head's order has an address only if no other head has it or can still get it by an order in
    flight.
    """
    states = {head: _state(head, desired, observed, memory) for head in desired.heads}
    if "unseen" in states.values():
        return replace(memory, states=states), []  # after a restart, listen first
    able = [head for head in desired.heads if states[head] == "up"]
    placed = {a: _place(a, desired, observed, memory, states, able) for a in desired.homes}
    memory = replace(memory, placed=placed)
    orders, number = dict(memory.orders), memory.number
    for head in desired.heads:
        wanted = frozenset(a for a, at in placed.items() if at == head)
        # Remove first: may_have() below must see orders without what moves away.
        kept = wanted & (orders[head].addresses if head in orders else _told(head, observed))
        if head not in orders or kept != orders[head].addresses:
            number += 1
            orders[head] = Order(number, kept)
    memory = replace(memory, orders=orders)
    for head in able:
        others, has = [h for h in desired.heads if h != head], orders[head].addresses
        wanted = has | {
            a
            for a, at in placed.items()
            if at == head
            and not any(may_have(o, a, desired, observed, memory, states) for o in others)
        }
        if wanted != orders[head].addresses:
            number += 1
            orders[head] = Order(number, wanted)
    actions, memory = _fences(desired, observed, memory, states, able)
    if not able and not memory.none_left:
        actions.append(NoHeadLeft())
    remembered = replace(memory, states=states, orders=orders, number=number, none_left=not able)
    return remembered, actions


def _told(head: str, observed: Observed) -> frozenset[str]:
    beat = observed.beats.get(head)
    return beat.addresses if beat else frozenset()


def _state(head: str, desired: Desired, observed: Observed, memory: Memory) -> State:
    beat = observed.beats.get(head)
    if head in observed.off and (beat is None or beat.boot == observed.off[head]):
        return "off"
    if head in memory.asked and head not in observed.off:
        return "lost"  # its power may be cut at any moment, whatever it reports now
    if head in observed.dark:
        return "lost"  # power or cable: a power cut makes sure
    if beat is None:
        return "unseen" if observed.now - memory.started < desired.unseen_s else "lost"
    if observed.now - beat.t > desired.dead_s:
        return "lost"
    return "up" if beat.live else "dark"


def may_have(
    head: str,
    address: str,
    desired: Desired,
    observed: Observed,
    memory: Memory,
    states: Mapping[str, State],
) -> bool:
    """Whether `head` has `address`, or can still get it."""
    if states[head] == "off" or (states[head] == "lost" and not desired.fencing):
        return False
    beat, order = observed.beats.get(head), memory.orders.get(head)
    if states[head] in ("lost", "unseen") and _given_up(head, address, desired, observed):
        return False
    if beat is None or order is None or address in beat.addresses:
        return True
    return address in order.addresses or beat.applied < order.number


def _given_up(head: str, address: str, desired: Desired, observed: Observed) -> bool:
    """Whether the lease of `head` is out for so long that it does not have `address`."""
    beat, end = observed.beats.get(head), observed.leased.get(head, float("inf"))
    if beat and beat.t > end and address in beat.addresses:
        return False  # it does not keep to its lease
    return observed.now > end + desired.margin_s


def _place(
    address: str,
    desired: Desired,
    observed: Observed,
    memory: Memory,
    states: Mapping[str, State],
    able: list[str],
) -> str:
    at = memory.placed.get(address)
    if at is None:  # after a restart the address stays where it is
        having = [h for h in desired.heads if address in _told(h, observed)]
        at = having[0] if having else desired.homes[address]
    if states[at] == "up" or not able:
        return at
    start = desired.heads.index(at)
    order = [*desired.heads[start + 1 :], *desired.heads[:start]]
    return next(head for head in order if head in able)


def _fences(
    desired: Desired,
    observed: Observed,
    memory: Memory,
    states: Mapping[str, State],
    able: list[str],
) -> tuple[list[Action], Memory]:
    actions: list[Action] = []
    # A head that gave up its addresses by its lease may come back, though its power was not cut.
    asked = {
        h: t
        for h, t in memory.asked.items()
        if states[h] == "lost"
        and not all(_given_up(h, a, desired, observed) for a in desired.homes)
    }
    blocked: dict[str, float] = {}
    for head in desired.heads:
        held = [
            a
            for a, at in memory.placed.items()
            if at != head and may_have(head, a, desired, observed, memory, states)
        ]
        if not held or not [h for h in able if h != head] or not desired.fencing:
            continue
        blocked[head] = memory.blocked.get(head, observed.now)
        late = observed.now - blocked[head] > desired.release_s
        if states[head] != "lost" and not late:
            continue
        if observed.now - asked.get(head, float("-inf")) > desired.again_s:
            asked[head] = observed.now
            cause = "lost" if states[head] == "lost" else "late"
            beat = observed.beats.get(head)
            actions.append(Fence(head, cause, beat.boot if beat else ""))
    return actions, replace(memory, asked=asked, blocked=blocked)
