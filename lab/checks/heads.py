"""Checks of arrays with heads: a silent head must lose power before another takes over."""

from __future__ import annotations

from lab.checks.address import clock_doubt_ms
from lab.checks.verdict import Answer, Look, check, failed, passed, unknown
from lab.timeline import Timeline


@check
def fenced_before_moved() -> Look:
    """No address came up on a head before the power of its previous head was cut.

    Evidence: the power switch's `power` events and the kernels' `address` events. Their clocks
    differ a little; a difference within that doubt is `unknown`.
    """

    def look(timeline: Timeline) -> Answer:
        cuts: dict[str, float] = {}
        holder: dict[str, str] = {}
        moved: list[str] = []
        for event in timeline:
            where: str = event["where"]
            if event["kind"] == "power":
                cuts[where] = event["t"]
            elif event["kind"] == "address" and event["op"] == "add":
                address = event["address"]
                before = holder.get(address, where)
                if before != where:
                    if before not in cuts:
                        text = f"{address} came up on {where}, but {before} had not lost power"
                        doubt = clock_doubt_ms(timeline, {before, where})
                        soon = event["t"] + doubt / 1000
                        if any(event["t"] < t <= soon for t in _cuts(timeline, before)):
                            return unknown(f"{text}; clocks agree to {doubt:.1f} ms.")
                        return failed(f"{text}.")
                    moved.append(f"{address} to {where}")
                holder[address] = where
                cuts.pop(where, None)  # it is on again
        if not moved:
            return unknown("No address moved from one head to another.")
        return passed(f"Power was cut before each move: {', '.join(moved)}.")

    return look


def _cuts(timeline: Timeline, head: str) -> list[float]:
    return [e["t"] for e in timeline.events("power", head)]
