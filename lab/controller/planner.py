"""What the array does next: a pure function of what is wanted, what is seen, what is remembered.

Rules, in words. A dead port's addresses go to the next live port after it in the order of the
configuration (cyclic), and stay there until their home port has been up for the hold time. An
address that lives on a live port is not moved for any other reason than an order, its home being
up, or a repair. Where no port is up, a suspect one is used, then one that is holding off, then a
drained one. Where none is live at all, nothing is changed. In the mode redirect-only a data
address is taken off its port when that is down, and put back when the port is up again (after the
hold time), or at once if no other port is up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lab.controller.model import (
    Action,
    AddAddress,
    Address,
    Cause,
    Desired,
    Memory,
    NoPortLeft,
    Observed,
    PortMemory,
    RemoveAddress,
    State,
)
from lab.controller.redirect import ANSWER_S, redirects

States = Mapping[str, State]


def plan(desired: Desired, observed: Observed, memory: Memory) -> tuple[Memory, list[Action]]:
    """The actions that bring the array to where it should be, in the order to execute them.

    Executed in that order they never give an address two owners: every removal comes before the
    addition of the same address. Given again what results from them, it answers no actions.
    """
    ports = port_states(desired, observed, memory)
    states: States = {name: port.state for name, port in ports.items()}
    best = candidates(desired, states)
    placed: dict[str, str] = {}
    moves: list[Action] = []
    for address in desired.addresses:
        owners = observed.owners.get(address.address, frozenset())
        target = place(desired, address, states, best, owners, memory.placed.get(address.address))
        if target is not None:
            placed[address.address] = target
        moves += _moves(address.address, target, owners, bool(best), ports, memory)
    steering, memory = redirects(desired, observed, memory, states, placed, best)
    actions = [*steering, *moves]
    if not best and not memory.none_left:
        actions.append(NoPortLeft())
    remembered = replace(memory, ports=ports, placed=placed, none_left=not best)
    return remembered, actions


def port_states(desired: Desired, observed: Observed, memory: Memory) -> dict[str, PortMemory]:
    """The state of every port, from its link, its probe verdict and its state before."""
    return {name: _port_state(name, desired, observed, memory) for name in desired.ports}


def _port_state(name: str, desired: Desired, observed: Observed, memory: Memory) -> PortMemory:
    old = memory.ports.get(name)
    verdict = observed.verdicts.get(name, "ok")
    alive: State = "suspect" if verdict == "suspect" else "up"
    state: State
    cause: Cause
    if not observed.links.get(name, False):
        state, cause = "down", "carrier"
    elif verdict == "silent":
        state, cause = "down", "probe"
    elif old is None:
        # Nothing is remembered after a restart, but the kernel tells that the port was down not
        # long ago: what is at home there is not there. When it came back is lost: hold from now.
        away = any(
            a.home == name and name not in observed.owners.get(a.address, ())
            for a in desired.addresses
        )
        state, cause = ("holding-off", "start") if away else (alive, "start")
    elif old.state == "down":
        state, cause = "holding-off", old.cause
    elif old.state == "holding-off":
        if observed.now < old.since + desired.hold_s:
            return old
        state, cause = alive, "hold"
    else:
        state, cause = alive, "probe"
    if old and old.state == state and (state != "down" or old.cause == cause):
        return old
    since = old.since if old and old.state == state else observed.now
    return PortMemory(state, since, cause)


def candidates(desired: Desired, states: States) -> list[str]:
    """The ports that may be given addresses, in order: all those of the best kind there is."""
    for drained in (False, True):
        for state in ("up", "suspect", "holding-off"):
            found = [
                name
                for name in desired.ports
                if states[name] == state and (name in desired.drained) == drained
            ]
            if found:
                return found
    return []


def after(order: tuple[str, ...], name: str) -> list[str]:
    """The ports in takeover order after `name`, which itself comes last."""
    if name not in order:
        return list(order)
    at = order.index(name) + 1
    return [*order[at:], *order[:at]]


def place(
    desired: Desired,
    address: Address,
    states: States,
    best: list[str],
    owners: frozenset[str],
    before: str | None,
) -> str | None:
    """The port where `address` belongs now, or None: on no port."""
    home = address.home
    here = [name for name in [home, *after(desired.ports, home)[:-1]] if name in owners]
    current = before if before in states else (here[0] if here else None)
    if not best:
        return current
    if desired.mode == "redirect-only" and not address.virtual:
        live = states[home] != "down"
        return home if live and (home in owners or states[home] == "up" or home in best) else None
    if states[home] == "up" and home not in desired.drained:
        return home
    for name in [current, *here]:
        # A first look may find several owners, and the first of them dead: any live one will do.
        live = name is not None and states[name] != "down"
        if live and (name not in desired.drained or best[0] in desired.drained):
            return name
    return next(name for name in after(desired.ports, current or home) if name in best)


def _moves(
    address: str,
    target: str | None,
    owners: frozenset[str],
    any_live: bool,
    ports: Mapping[str, PortMemory],
    memory: Memory,
) -> list[Action]:
    """Removals first, then the addition; with no port left only a second owner is removed."""
    if not any_live and len(owners) < 2:
        return []
    cause = _cause(memory.placed.get(address), target, ports, memory)
    actions: list[Action] = [
        RemoveAddress(address, name, cause) for name in sorted(owners) if name != target
    ]
    if target is not None and target not in owners and any_live:
        actions.append(AddAddress(address, target, cause))
    return actions


def _cause(
    before: str | None, target: str | None, ports: Mapping[str, PortMemory], memory: Memory
) -> Cause:
    """Why an address that was put at `before` goes to `target`."""
    if not memory.ports:
        return "start"
    if before == target:
        return "repair"
    old, new = ports.get(before or ""), ports.get(target or "")
    if old and old.state == "down":
        return old.cause
    if new and new.cause == "hold" and new != memory.ports.get(target or ""):
        return "hold"
    return "order"


def next_look(desired: Desired, memory: Memory) -> float | None:
    """When (monotonic seconds) the passing of time alone may change the plan; None: never."""
    due = [
        port.since + desired.hold_s for port in memory.ports.values() if port.state == "holding-off"
    ]
    if memory.asked:
        due.append(memory.asked.at + ANSWER_S)
    elif memory.rebalancing:
        due.append(memory.asked_at + desired.request_s)
    return min(due, default=None)
