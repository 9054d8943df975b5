"""Checks of arrays with heads: a head is fenced before another one takes its addresses."""

from __future__ import annotations

from lab.checks.clocks import apart_ms
from lab.checks.moments import scenario_end
from lab.checks.verdict import Answer, Look, check, failed, passed, unknown
from lab.timeline import Timeline


@check(sees=("addresses", "clock"))
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
        doubtful = ""
        end = scenario_end(timeline)
        for event in (e for e in timeline if e["t"] <= end):
            where: str = event["where"]
            if event["kind"] == "head-boot":
                boots[where] = event["boot"]
            elif event["kind"] == "power":
                cuts.add((where, event.get("boot")))
            elif event["kind"] == "address" and event["op"] == "add":
                address = event["address"]
                before, boot = holder.get(address, (where, None))
                if before != where:
                    text = f"{address} came up on {where}; the power of {before} was"
                    doubt = apart_ms(timeline, {before, where})
                    times = [event["t"] - t for t in _cuts(timeline, before, boot)]
                    if any(abs(t) * 1000 <= doubt for t in times):
                        doubtful = f"{text} cut then; the clocks may differ by {doubt:.1f} ms."
                    elif (before, boot) not in cuts:
                        return failed(f"{text} not cut.")
                    moved.append(f"{address} to {where}")
                holder[address] = where, boots.get(where)
                cuts.discard(holder[address])  # without names of boots: it is on again
        if doubtful:
            return unknown(doubtful)
        if not moved:
            return unknown("No address moved from one head to another.")
        return passed(f"The power was cut before each move: {', '.join(moved)}.")

    return look


def _cuts(timeline: Timeline, head: str, boot: str | None) -> list[float]:
    return [e["t"] for e in timeline.events("power", head) if e.get("boot") == boot]
