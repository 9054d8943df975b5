"""Checks of arrays with heads: a head is fenced before another one takes its addresses."""

from __future__ import annotations

from lab.checks.clocks import apart_ms
from lab.checks.verdict import Answer, Look, check, failed, passed, unknown
from lab.timeline import Timeline


@check(sees=("addresses", "clock"))
def fenced_before_moved() -> Look:
    """An address came up on another head only after the power of the first one was cut.

    The power switch tells of the cut (`power`), the kernels tell who has an address. Their clocks
    differ a little: an order within that doubt is unknown.
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
                        text = f"{address} came up on {where}; the power of {before} was not cut"
                        doubt = apart_ms(timeline, {before, where})
                        soon = event["t"] + doubt / 1000
                        if any(event["t"] < t <= soon for t in _cuts(timeline, before)):
                            return unknown(f"{text} before; clocks may differ by {doubt:.1f} ms.")
                        return failed(f"{text}.")
                    moved.append(f"{address} to {where}")
                holder[address] = where
                cuts.pop(where, None)  # it is on again
        if not moved:
            return unknown("No address moved from one head to another.")
        return passed(f"The power was cut before each move: {', '.join(moved)}.")

    return look


def _cuts(timeline: Timeline, head: str) -> list[float]:
    return [e["t"] for e in timeline.events("power", head)]
