"""Checks of which port has an address, by the kernel's word and by the claims on the wire."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from lab.checks.clocks import apart_ms, doubt_ms
from lab.checks.evidence import missing
from lab.checks.moments import scenario_end
from lab.checks.portals import port_macs, virtual_addresses
from lab.checks.verdict import Answer, Look, check, failed, passed, unknown
from lab.portal import ip_of
from lab.timeline import Event, Timeline

_SHOWN = 4
"""How many of many owners the evidence names, at each end of the list."""
CLAIMS = ("announcement", "arp-claim")
"""Kinds of event in which a frame says that an address is at a MAC."""
BEFORE_MS, AFTER_MS = 2000.0, 500.0
"""A claim so soon before its port gets the address, or after it lost it, is no evidence. A change
has the time at which the watcher read it, which was up to 0.9 s late on two processors with seven
busy processes. So the gain of an address may seem to come after its announcement. The loss of one
is never seen too early, but a frame may still be queued, or its sender held up: 400 ms were seen
(HEARTBEAT in lab/array/head.py)."""


@dataclass(frozen=True)
class Owned:
    """From `t` on (Unix seconds), `address` is up on `ports`."""

    t: float
    address: str
    ports: frozenset[str]


def ownership(timeline: Timeline, address: str) -> list[Owned]:
    """Each change of the ports that have `address`, from the kernel's notifications."""
    wanted = ip_of(address)
    ports: frozenset[str] = frozenset()
    found: list[Owned] = []
    for event in timeline.events("address"):
        if event["source"] != "kernel" or ip_of(event["address"]) != wanted:
            continue
        here = {event["where"]}
        changed = ports | here if event["op"] == "add" else ports - here
        if changed != ports:
            ports = changed
            found.append(Owned(event["t"], wanted, ports))
    return found


def owners_at(timeline: Timeline, address: str, t: float | None = None) -> frozenset[str]:
    """The ports that have `address` up at `t`, or at the end."""
    states = [o for o in ownership(timeline, address) if t is None or o.t <= t]
    return states[-1].ports if states else frozenset()


def claims(timeline: Timeline, address: str) -> list[Event]:
    """The announcements and ARP claims of `address` on the wire, in order."""
    wanted = ip_of(address)
    return [e for e in timeline if e["kind"] in CLAIMS and ip_of(e["address"]) == wanted]


@check(sees=("addresses", "capture", "decoder"))
def one_owner_of_virtual_address(address: str | None = None) -> Look:
    """The virtual address is never up on two ports, and only its owner claims it on the wire.

    Judges every virtual address of the configuration, or only `address`. A claim close to a move
    (BEFORE_MS, AFTER_MS, and what the clocks may differ) may be of the owner before or after it.
    """

    def look(timeline: Timeline) -> Answer:
        judged = [address] if address else virtual_addresses(timeline)
        if not judged:
            return unknown("The configuration names no virtual address.")
        answers = [_one_owner(timeline, one) for one in judged]
        for worst in ("fail", "unknown"):
            for answer in answers:
                if answer[0] == worst:
                    return answer
        return passed(" ".join(text for _, text in answers))

    return look


def _one_owner(timeline: Timeline, address: str) -> Answer:
    states = ownership(timeline, address)
    doubtful = ""
    for at, state in enumerate(states):
        if len(state.ports) > 1:
            later = states[at + 1 :]
            span = (later[0].t - state.t) * 1000 if later else float("inf")
            for_ms = f"for {span:.1f} ms" if later else "to the end"
            both = f"{address} was up on {_and(state.ports)} at once, {for_ms}"
            doubt = apart_ms(timeline, state.ports)
            if span > doubt:
                return failed(f"{both}.")
            doubtful = f"{both}, but their clocks agree only to {doubt:.1f} ms."
    if doubtful:
        return unknown(doubtful)
    macs, said = port_macs(timeline), claims(timeline, address)
    strangers = sorted({e["mac"].lower() for e in said} - set(macs))
    if macs and strangers:
        return failed(
            f"{_and(strangers)} claimed {address} on the wire and is no port of the array."
        )
    if not states:
        return unknown(f"The address watcher recorded nothing about {address}.")
    # The judge asks for whole evidence for a pass; here a fail would rest on it: what the watcher
    # missed could make the owner's own claim a stranger's.
    judged = said if missing(timeline, [("addresses", None)]) is None else []
    doubts = {port: doubt_ms(timeline, port) for port in macs.values()}
    for one in judged:
        port = macs.get(one["mac"].lower())
        if port and not _had_about(states, port, one["t"], doubts[port]):
            owners = _and(owners_at(timeline, address, one["t"])) or "no port"
            return failed(
                f"{port} claimed {address} on the wire at {one['t']:.3f}, when {owners} had it."
            )
    if said and not macs:
        return unknown(f"{address} was claimed on the wire, but the ports' MACs are not recorded.")
    held = [_and(s.ports) for s in states if s.ports]
    left_out = len(held) - 2 * _SHOWN
    if left_out > 0:
        held[_SHOWN:-_SHOWN] = [f"({left_out} more)"]
    holders = " then ".join(held)
    claimed = f"{len(said)} claims on the wire, all by owners" if said else "no claim on the wire"
    return passed(f"{address} was on {holders}, never on two ports at once; {claimed}.")


def _had_about(states: Collection[Owned], port: str, t: float, doubt_ms: float) -> bool:
    """Whether `port` had the address at `t`, or so close to it that nobody can tell."""
    before, after = (BEFORE_MS + doubt_ms) / 1000, (AFTER_MS + doubt_ms) / 1000
    ends = [*(state.t for state in states), float("inf")][1:]
    return any(
        port in state.ports and state.t - before <= t <= end + after
        for state, end in zip(states, ends, strict=True)
    )


@check(sees=("addresses",), timed=True)
def moved_to(
    address: str, to: str | Collection[str] | None = None, *, away_from: str | None = None
) -> Look:
    """When the scenario is over, `address` is up on one port: one of `to`, not `away_from`.

    `to` None: any port.
    """
    wanted = {to} if isinstance(to, str) else set(to) if to is not None else None

    def look(timeline: Timeline) -> Answer:
        end = scenario_end(timeline)
        states = [state for state in ownership(timeline, address) if state.t <= end]
        if not states:
            return unknown(f"The address watcher recorded nothing about {address}.")
        owners = states[-1].ports
        if len(owners) != 1:
            return failed(f"At the end {address} is on {_and(owners) if owners else 'no port'}.")
        (owner,) = owners
        text = f"{address} is on {owner} at the end"
        if wanted is not None and owner not in wanted:
            return failed(f"{text}, not on {' or '.join(sorted(wanted))}.")
        if away_from == owner:
            return failed(f"{text}, which it should have left.")
        first = next((s.ports for s in states if s.ports), frozenset())
        return passed(f"{text}; it was on {_and(first)} at the start.")

    return look


def _and(names: Collection[str]) -> str:
    return " and ".join(sorted(names))
