"""Checks of arrays with heads: a head is fenced before another one takes its addresses."""

from __future__ import annotations

from lab.checks.address import clock_doubt_ms
from lab.checks.verdict import Answer, Look, check, failed, passed, unknown
from lab.timeline import Timeline


@check
def fenced_before_moved() -> Look:
    """An address came up on another head only after the power of the first one was cut.

    The power switch tells which boot it ended (`power`), the kernels tell who has an address. A cut
    of an earlier boot does not count. The clocks differ a little: an order within that doubt is
    unknown.
    """

    def look(timeline: Timeline) -> Answer:
        boots: dict[str, str | None] = {}
        cuts: set[tuple[str, str | None]] = set()
        holder: dict[str, tuple[str, str | None]] = {}
        moved: list[str] = []
        for event in timeline:
            where: str = event["where"]
            if event["kind"] == "head-boot":
                boots[where] = event["boot"]
            elif event["kind"] == "power":
                cuts.add((where, event.get("boot")))
            elif event["kind"] == "address" and event["op"] == "add":
                address = event["address"]
                before, boot = holder.get(address, (where, None))
                if before != where:
                    if (before, boot) not in cuts:
                        text = f"{address} came up on {where}; the power of {before} was not cut"
                        doubt = clock_doubt_ms(timeline, {before, where})
                        soon = event["t"] + doubt / 1000
                        if any(event["t"] < t <= soon for t in _cuts(timeline, before, boot)):
                            return unknown(f"{text} before; clocks may differ by {doubt:.1f} ms.")
                        return failed(f"{text}.")
                    moved.append(f"{address} to {where}")
                holder[address] = where, boots.get(where)
                cuts.discard(holder[address])  # without names of boots: it is on again
        if not moved:
            return unknown("No address moved from one head to another.")
        return passed(f"The power was cut before each move: {', '.join(moved)}.")

    return look


def _cuts(timeline: Timeline, head: str, boot: str | None) -> list[float]:
    return [e["t"] for e in timeline.events("power", head) if e.get("boot") == boot]
