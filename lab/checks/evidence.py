"""Whether the observers saw all that a check needs, and whether the machine let the lab run."""

from __future__ import annotations

from collections.abc import Iterable

from lab.checks.moments import scenario_end, time_of
from lab.checks.portals import config
from lab.evidence import BEGIN, BROKEN, END, EVIDENCE, GAP
from lab.timeline import BUILT, Event, Timeline

Need = tuple[str, str | None]
"""A source of evidence, and the place where it is needed (None: wherever it is observed)."""

BUSY_SHARE = 0.5
"""Beside four spinning processes a processor, other work keeps the lab's processes waiting for more
than all of the time; on a quiet machine, for some hundredths of it (measured)."""
TOO_BUSY = "The machine was too busy"
"""What the evidence begins with where that makes a fail unknown."""
_BUSY_SPAN_S, _BUSY_PART = 0.5, 0.05
"""The machine was busy if it was so for that long, and for that part of the run."""
LOADS = ("load", "swaps")
"""What begins when the scenario starts it, not with the lab."""
_MATTERS = 0.25
"""The part of a missed time that the machine must have taken to make the miss unknown."""


def missing(timeline: Timeline, needs: Iterable[Need]) -> str | None:
    """The first gap in the evidence that is needed, in a sentence; None if it is whole.

    Needed is all from the moment at which the lab was built to the end of the scenario.
    """
    begin, end = time_of(timeline, BUILT) or 0.0, scenario_end(timeline)
    events = timeline.events(EVIDENCE)
    for source, place in needs:
        seen = [e for e in events if e["source"] == source and place in (None, e["where"])]
        places = {e["where"] for e in seen}
        absent = ({place} if place else _places(timeline, source)) - places
        if absent or not seen:
            at = f" of {min(absent)}" if absent else ""
            return f"No observer of the {source}{at} was there."
        for where in sorted(places):
            here = [e for e in seen if e["where"] == where]
            gap = _gap(here, source, begin, end, _lost_power(timeline, where))
            if gap:
                return gap
    return None


def _places(timeline: Timeline, source: str) -> set[str]:
    """Where the lab as it was configured has something for an observer of `source` to see."""
    facts = config(timeline)
    hosts, kernels = set(facts.get("hosts", ())), set(facts.get("kernels", ()))
    return {"capture": hosts, "clock": kernels, "addresses": kernels - hosts}.get(source, set())


def _lost_power(timeline: Timeline, where: str) -> bool:
    """Whether the kernel there lost its power: then there was nothing to see for a while."""
    cuts = [e for e in timeline.events("fault", where) if e["name"] == "power-cut"]
    return bool(cuts or timeline.events("power", where))


def _gap(seen: list[Event], source: str, begin: float, end: float, lost_power: bool) -> str | None:
    """What one observer may have missed from `begin` to `end`."""
    name = f"The observer of the {source} of {seen[0]['where']}"
    began = [e["t"] for e in seen if e["phase"] == BEGIN]
    if not began:
        return f"{name} did not say that it began."
    if source not in LOADS and began[0] > begin > 0:
        return f"{name} began {began[0] - begin:.3f} s after the lab was built."
    for event in seen:
        since = event.get("since", began[0])
        if event["phase"] == GAP and since <= end and event["t"] >= begin:
            return f"{name} had a gap: {event['what']}."
        if event["phase"] == BROKEN:
            return f"{name} broke: {event['what']}."
    ended = [e["t"] for e in seen if e["phase"] == END]
    if len(ended) < len(began):
        return f"{name} did not say that it ended well."
    if source not in LOADS and not lost_power and ended[0] < end < float("inf"):
        return f"{name} ended {end - ended[0]:.3f} s before the scenario did."
    return None


def waited_ms(timeline: Timeline, since: float, until: float) -> float:
    """For how many ms other work kept the lab waiting for a processor, at most the whole time.

    By the `machine` events (lab/observe/pressure.py): each has the time `t`, `since`, and for how
    many milliseconds other work kept all of the lab's processes together waiting.
    """
    total = 0.0
    for event in timeline.events("machine"):
        span = event["t"] - event["since"]
        both = min(until, event["t"]) - max(since, event["since"])
        if span > 0 and both > 0:
            total += min(event["waited_ms"] * both / span, both * 1000)
    return total


def machine_took(timeline: Timeline, since: float, until: float, missed_ms: float) -> str | None:
    """Why a limit missed by `missed_ms` may be the machine's doing, in a sentence; else None.

    It may, if the lab's processes waited for a processor for as long as the limit was missed, or
    for a quarter of the whole time: one lost moment can make TCP wait for its next timer.
    """
    whole = (until - since) * 1000
    waited = waited_ms(timeline, since, until)
    if waited and (waited >= missed_ms or waited >= _MATTERS * whole):
        return (
            f"{TOO_BUSY}: other work kept the lab waiting for a processor for "
            f"{waited:.0f} ms of these {whole:.0f} ms."
        )
    return None


def machine_busy(timeline: Timeline) -> str | None:
    """Why what came too late in this run may be the machine's doing, in a sentence; else None.

    It may, if other work kept them waiting half the time for half a second or more, and for a
    twentieth of the run.
    """
    begin, end = time_of(timeline, BUILT) or 0.0, scenario_end(timeline)
    events = [e for e in timeline.events("machine") if e["t"] > begin and e["since"] < end]
    waits = [(e["t"] - e["since"], e["waited_ms"] / 1000) for e in events]
    busy = sum(span for span, waited in waits if waited >= BUSY_SHARE * span)
    last = min(end, max((e["t"] for e in timeline), default=0.0))
    if busy < max(_BUSY_SPAN_S, _BUSY_PART * (last - begin) if begin else 0.0):
        return None
    return (
        f"{TOO_BUSY}: for {busy:.1f} s of the run other work kept the lab waiting for a processor "
        "at least half the time."
    )
