"""What the array does next: a pure function of desired state, observed state and memory.

Rules. A dead port's addresses go to the next live port in the order of the configuration
(cyclic), and stay there until their home port has been up for the hold time. An address on a live
port moves only by order, to a home that is up, or for a repair. If no port is up, a suspect one is
used, then one that is holding off, then a drained one. If no port is live, nothing changes. In
mode redirect-only a data address is removed from its port when the port is down. It is put back
after the hold time, or at once if no other port is up.
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
    """The actions that bring the array to its desired state, in the order to execute them.

    Executed in that order they never give an address two owners: an address is removed before it is
    added. Called again on the result, it returns no actions.
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
    """The state of every port, from its link, its probe verdict and its last state."""
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
        # After a restart the kernel shows that the port was down lately: an address of its own is
        # elsewhere. Nobody knows when the port came back, so the hold time starts now.
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
    """The ports that may get addresses, in order: all ports in the best state found."""
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
    """The ports in takeover order after `name`; `name` comes last."""
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
    """The port that must have `address` now; None: no port."""
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
        # The first plan may find several owners, the first of them dead: take a live one.
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
    """Removals first, then the addition; with no port left only second owners are removed."""
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
    """The cause of a move from `before` to `target`."""
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
    """When (monotonic seconds) time alone may change the plan; None: never."""
    due = [
        port.since + desired.hold_s for port in memory.ports.values() if port.state == "holding-off"
    ]
    if memory.asked:
        due.append(memory.asked.at + ANSWER_S)
    elif memory.rebalancing:
        due.append(memory.asked_at + desired.request_s)
    return min(due, default=None)
