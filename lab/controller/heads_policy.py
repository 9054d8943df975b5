"""The policy for a dual-head array: a pure function, as policy.py is for ports.

The rules:
A head that is silent, or whose management link is down, is fenced before another head gets its
addresses, because silence does not prove that it is dead.
A head that is heard but has no live data port is told to give up its addresses. It is fenced if it
does not confirm that in time.
An address goes to the next head in the order of the configuration and stays there. A move breaks
connections, so addresses go home only by order.
The last head that can serve is never fenced. If no head is heard, as without management network,
nothing is done.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

State = Literal["unseen", "up", "dark", "lost", "off"]


@dataclass(frozen=True)
class Beat:
    """A head's latest heartbeat, received at `t` (monotonic seconds) from its boot `boot`.

    `addresses` are those of its kernel. `applied` is the number of the latest order that it has
    executed; it ignores lower numbers from then on. `live`: its data port works.
    """

    t: float
    boot: str
    addresses: frozenset[str]
    applied: int = 0
    live: bool = True


@dataclass(frozen=True)
class Desired:
    """`heads` in takeover order; `homes`: address to head. `fencing` False is for controls only.

    Times are seconds. A head is lost after `dead_s` of silence, or after `unseen_s` from the start
    if it was never heard. It has `release_s` to give an address up. An unconfirmed power cut is
    asked for again after `again_s`.
    """

    heads: tuple[str, ...]
    homes: Mapping[str, str]
    fencing: bool = True
    dead_s: float = 0.1
    unseen_s: float = 3.0
    release_s: float = 0.5
    again_s: float = 2.0


@dataclass(frozen=True)
class Observed:
    """The state at `now` (monotonic seconds).

    `beats`: the latest heartbeat of each head. `off`: head to the boot whose power was cut. `dark`:
    the heads whose management link is down.
    """

    now: float
    beats: Mapping[str, Beat]
    off: Mapping[str, str] = field(default_factory=dict)
    dark: Collection[str] = ()


@dataclass(frozen=True)
class Order:
    """The addresses that a head must have; `number` rises with each change."""

    number: int
    addresses: frozenset[str]


@dataclass(frozen=True)
class Fence:
    """Cut the power of `head`; `cause` is the state of the head that requires it."""

    head: str
    cause: str


@dataclass(frozen=True)
class NoHeadLeft:
    """No head can serve; nothing is done until one can."""


Action = Fence | NoHeadLeft


@dataclass(frozen=True)
class Memory:
    """What the policy remembers between plans; empty after a start.

    `placed`: the head of each address. `asked`: head to the time of an unconfirmed power cut
    request. `blocked`: head to the time since when it holds an address that another must have.
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
    """The actions to take now, and the order of every head (`Memory.orders`).

    A head's order has an address only if no other head has it or can still get it by an order in
    flight.
    """
    states = {head: _state(head, desired, observed, memory) for head in desired.heads}
    if "unseen" in states.values():
        return replace(memory, states=states), []  # after a start it listens first
    able = [head for head in desired.heads if states[head] == "up"]
    placed = {a: _place(a, desired, observed, memory, states, able) for a in desired.homes}
    memory = replace(memory, placed=placed)
    orders, number = dict(memory.orders), memory.number
    for head in desired.heads:
        wanted = frozenset(a for a, at in placed.items() if at == head)
        # First remove addresses, so that may_have() below judges the new orders.
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
        return "lost"  # its power may go at any moment, whatever it says now
    if head in observed.dark:
        return "lost"  # its power or only its cable; a power cut makes sure
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
    """Whether `head` has `address` or can still get it."""
    if states[head] == "off" or (states[head] == "lost" and not desired.fencing):
        return False
    beat, order = observed.beats.get(head), memory.orders.get(head)
    if beat is None or order is None or address in beat.addresses:
        return True
    return address in order.addresses or beat.applied < order.number


def _place(
    address: str,
    desired: Desired,
    observed: Observed,
    memory: Memory,
    states: Mapping[str, State],
    able: list[str],
) -> str:
    at = memory.placed.get(address)
    if at is None:  # after a start an address stays where it is
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
    asked = {h: t for h, t in memory.asked.items() if states[h] == "lost"}
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
            actions.append(Fence(head, states[head] if states[head] == "lost" else "late"))
    return actions, replace(memory, asked=asked, blocked=blocked)
