"""Where each host is redirected at its next login, and which host is asked to move. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lab.controller.model import (
    Action,
    Asked,
    AskToMove,
    Desired,
    Memory,
    Observed,
    Redirect,
    State,
)

ANSWER_S = 10.0
"""How long a host has to move, in seconds, before the next one is asked."""


def family(address: str) -> int:
    """4 or 6."""
    return 6 if ":" in address else 4


def redirects(
    desired: Desired,
    observed: Observed,
    memory: Memory,
    states: Mapping[str, State],
    placed: Mapping[str, str],
    best: list[str],
) -> tuple[list[Action], Memory]:
    """The changed login answers and at most one request to move, and the new memory.

    With no port left (`best` empty) every answer stays as it is.
    """
    if not best:
        return [], replace(memory, rebalancing=False, asked=None)
    offers = {f: _offers(desired, placed, best, f) for f in (4, 6)}
    asks, memory = _requests(desired, observed, memory, states, placed, offers)
    load = port_load(observed, placed)
    choices = _choices(desired, observed, memory, offers, load)
    changed: list[Action] = [
        Redirect(initiator, choice)
        for initiator, choice in choices.items()
        if initiator not in memory.choices or memory.choices[initiator] != choice
    ]
    return [*changed, *asks], replace(memory, choices=choices)


def port_load(observed: Observed, placed: Mapping[str, str]) -> dict[str, int]:
    """Sessions at each port, also at addresses that it took over."""
    load: dict[str, int] = {}
    for (_, address), count in observed.sessions.items():
        if address in placed:
            load[placed[address]] = load.get(placed[address], 0) + count
    return load


def _offers(
    desired: Desired, placed: Mapping[str, str], best: list[str], wanted: int
) -> dict[str, str]:
    """For each port in `best`, the address to redirect to: its own, or one that it took over."""
    offers: dict[str, str] = {}
    for name in best:
        here = [
            a
            for a in desired.addresses
            if not a.virtual and placed.get(a.address) == name and family(a.address) == wanted
        ]
        own = [a for a in here if a.home == name]
        if here:
            offers[name] = (own or here)[0].address
    return offers


def _choices(
    desired: Desired,
    observed: Observed,
    memory: Memory,
    offers: Mapping[int, Mapping[str, str]],
    load: Mapping[str, int],
) -> dict[str, str | None]:
    """The login answer for every known host, and for unknown hosts.

    A host stays where its session is or, without one, where it was last sent. Other hosts go to the
    port with the fewest sessions, the first of equals. A known host that is not logged in counts
    where it is sent, so that simultaneous logins spread.
    """
    choices: dict[str, str | None] = {}
    assigned = dict(load)
    waiting: list[str] = []
    at: dict[str, list[str]] = {}
    for initiator, address in observed.sessions:
        at.setdefault(initiator, []).append(address)
    for initiator in desired.initiators:
        mine = offers[family(initiator)]
        ports = {address: name for name, address in mine.items()}
        if desired.redirect == "none" or initiator in desired.serve or not mine:
            choices[initiator] = None
            continue
        fixed = desired.fixed.get(initiator) if desired.redirect == "fixed" else None
        asked = memory.asked.to if memory.asked and memory.asked.initiator == initiator else None
        held = sorted(at.get(initiator, ()))
        wishes = [mine.get(fixed or ""), asked, *held, memory.choices.get(initiator)]
        choice = next((wish for wish in wishes if wish in ports), None)
        if choice is None:
            waiting.append(initiator)
            continue
        choices[initiator] = choice
        if not held:
            assigned[ports[choice]] = assigned.get(ports[choice], 0) + 1
    for initiator in waiting:
        mine = offers[family(initiator)]
        name = min(mine, key=lambda port: assigned.get(port, 0))
        choices[initiator] = mine[name]
        if initiator not in at:
            assigned[name] = assigned.get(name, 0) + 1
    for default, number in (("default", 4), ("default6", 6)):
        mine = offers[number]
        known = any(family(a.address) == number for a in desired.addresses)
        if known:
            least = min(mine, key=lambda port: assigned.get(port, 0)) if mine else None
            choices[default] = mine[least] if least and desired.redirect != "none" else None
    return {name: choices[name] for name in [*desired.initiators, *choices]}


def _requests(
    desired: Desired,
    observed: Observed,
    memory: Memory,
    states: Mapping[str, State],
    placed: Mapping[str, str],
    offers: Mapping[int, Mapping[str, str]],
) -> tuple[list[Action], Memory]:
    """Balance the load: ask one host at a time, and each at most once in a round.

    A round begins when a port comes up, when a port is drained, or by order. It ends when no
    request would improve the balance.
    """
    came_up = any(
        states[name] == "up" and name in memory.ports and memory.ports[name].state != "up"
        for name in desired.ports
    )
    ordered = desired.rebalances != memory.rebalances
    if came_up or ordered:
        # A host on its way keeps its answer, and the next request waits for it.
        offered = {address for mine in offers.values() for address in mine.values()}
        moving = memory.asked if memory.asked and memory.asked.to in offered else None
        memory = replace(
            memory,
            rebalancing=True,
            rebalances=desired.rebalances,
            asked=moving,
            asked_before=frozenset(),
        )
    if not memory.rebalancing:
        return [], memory
    asked, now = memory.asked, observed.now
    if asked:
        moved = (asked.initiator, asked.to) in observed.sessions
        if not moved and now < asked.at + ANSWER_S:
            return [], memory
        memory = replace(memory, asked=None)
    if now < memory.asked_at + desired.request_s:
        return [], memory
    request = _most_useful(desired, observed, memory, placed, offers)
    if request is None:
        return [], replace(memory, rebalancing=False)
    memory = replace(
        memory,
        asked=Asked(request.initiator, request.to, now),
        asked_before=memory.asked_before | {request.initiator},
        asked_at=now,
    )
    return [request], memory


def _most_useful(
    desired: Desired,
    observed: Observed,
    memory: Memory,
    placed: Mapping[str, str],
    offers: Mapping[int, Mapping[str, str]],
) -> AskToMove | None:
    """The request that moves a host from the fullest port to the emptiest, if that helps."""
    load = port_load(observed, placed)
    by_port = sorted(
        (s for s in observed.sessions if s[1] in placed),
        key=lambda s: (-load[placed[s[1]]], s),
    )
    for initiator, source in by_port:
        mine = offers[family(initiator)]
        served = desired.redirect == "none" or initiator in desired.serve
        if initiator in memory.asked_before or served or not mine:
            continue
        here = placed[source]
        fixed = desired.fixed.get(initiator) if desired.redirect == "fixed" else None
        if fixed and fixed in mine:
            if here != fixed:
                return AskToMove(initiator, source, mine[fixed])
            continue
        to = min(mine, key=lambda port: load.get(port, 0))
        leaving = here in desired.drained and here not in mine
        if leaving or load[here] - load.get(to, 0) >= 2:
            return AskToMove(initiator, source, mine[to])
    return None
