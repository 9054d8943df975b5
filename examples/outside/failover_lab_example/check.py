"""A check: a pure function from the timeline to pass, fail or unknown, with its evidence."""

from __future__ import annotations

from collections.abc import Callable

from lab.checks.disk import acknowledged
from lab.checks.verdict import Answer, check, failed, passed, unknown
from lab.timeline import Timeline


@check
def wrote_after(host: str, fault: str, count: int = 100) -> Callable[[Timeline], Answer]:
    """At least `count` writes of `host` were acknowledged after the last `fault` had ended."""

    def look(timeline: Timeline) -> Answer:
        ends = [
            e["t"] for e in timeline.events("fault") if (e["name"], e["phase"]) == (fault, "end")
        ]
        if not ends:
            return unknown(f"No {fault} has ended.")
        after = sum(e["t"] > max(ends) for e in acknowledged(timeline, host))
        text = f"{after} writes of {host} were acknowledged after the {fault}"
        return passed(f"{text}.") if after >= count else failed(f"{text}, not {count}.")

    return look
