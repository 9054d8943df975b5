"""Moments of a run: those that the scenario marked, and its end."""

from __future__ import annotations

from lab.timeline import TAKE_DOWN, Timeline


def time_of(timeline: Timeline, moment: str) -> float | None:
    """When the scenario marked `moment` (Lab.mark), in Unix seconds; None if it did not."""
    found = [e["t"] for e in timeline.events("moment") if e["name"] == moment]
    return found[0] if found else None


def scenario_end(timeline: Timeline) -> float:
    """When the scenario was over, in Unix seconds; infinity if the lab was not taken down.

    Take-down ends faults and stops everything in turn: what happens then is not the array's doing.
    """
    end = time_of(timeline, TAKE_DOWN)
    return float("inf") if end is None else end
