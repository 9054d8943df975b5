"""How far the clocks of two kernels may be apart: an order of events within that is unknown."""

from __future__ import annotations

from collections.abc import Collection

from lab.checks.portals import config
from lab.timeline import Timeline


def doubt_ms(timeline: Timeline, name: str) -> float:
    """How far, in ms, the clock that stamped the events of the port or guest `name` may be off.

    Off this machine's clock, which stamps what the lab itself does and the frames. Each guest's
    clock was measured at its boot and at the end (`clock` events): it may be wrong by what it was
    off then, and the uncertainty of that. A port belongs to the head of its name, or to the array's
    own kernel; 0 if the array has none.
    """
    measured: dict[str, float] = {}
    for event in timeline.events("clock"):
        off = abs(event.get("offset_ms", 0.0)) + event["within_ms"]
        measured[event["where"]] = max(off, measured.get(event["where"], 0.0))
    return measured.get(_kernel(timeline, name, measured), 0.0)


def apart_ms(timeline: Timeline, names: Collection[str]) -> float:
    """How far, in ms, the clocks of the kernels of these ports or guests may be apart.

    0 if all of them are one kernel's.
    """
    measured = {event["where"]: 0.0 for event in timeline.events("clock")}
    kernels = {_kernel(timeline, name, measured) for name in names}
    return sum(doubt_ms(timeline, one) for one in kernels if one) if len(kernels) > 1 else 0.0


def array_doubt_ms(timeline: Timeline) -> float:
    """How far, in ms, the clock of any kernel of the array may be off this machine's."""
    facts = config(timeline)
    own = set(facts.get("kernels", ())) - set(facts.get("hosts", ()))
    return max((doubt_ms(timeline, name) for name in own), default=0.0)


def _kernel(timeline: Timeline, name: str, measured: Collection[str]) -> str:
    """The kernel whose clock stamps the events of `name`; "" if that is this machine's."""
    if name in measured:
        return name
    facts = config(timeline)
    own = sorted(set(facts.get("kernels", ())) - set(facts.get("hosts", ())))
    return own[0] if len(own) == 1 and name not in facts.get("hosts", ()) else ""
