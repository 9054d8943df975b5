"""Checks of how often addresses move, and of what the array's own processes do meanwhile."""

from __future__ import annotations

from lab.checks.address import Owned, claims, ownership
from lab.checks.moments import scenario_end, time_of
from lab.checks.verdict import Answer, Look, check, failed, passed, unknown
from lab.timeline import Timeline

KILLED = "controller-killed"
"""The fault that is the controller's death."""
NOTED_LATE_S = 0.2
"""How late, in seconds, a busy machine may be with recording that a fault has ended."""
BACK_LATE_S = 1.0
"""How late, in seconds, an address may be back after its port's hold time."""


def stays(timeline: Timeline, address: str, until: float | None = None) -> list[Owned]:
    """Where `address` was, one after the other: each change to another port, or to several.

    Up to the time `until`, or as long as the scenario ran.
    """
    end = scenario_end(timeline) if until is None else until
    found: list[Owned] = []
    for state in ownership(timeline, address):
        if state.t > end:
            break
        if state.ports and (not found or state.ports != found[-1].ports):
            found.append(state)
    return found


def _way(found: list[Owned]) -> str:
    return " then ".join(" and ".join(sorted(state.ports)) for state in found)


@check
def moved_times(address: str, times: int, *, until: str | None = None) -> Look:
    """`address` went to another port exactly `times` times, as the array's kernel has it.

    Until the moment `until`, which the scenario marks (Lab.mark); without one, until it is over.
    """

    def look(timeline: Timeline) -> Answer:
        end = time_of(timeline, until) if until else None
        if until and end is None:
            return unknown(f"The moment {until!r} did not come, up to which moves are counted.")
        found = stays(timeline, address, end)
        if not found:
            return unknown(f"The kernel's watcher recorded nothing about {address}.")
        text = f"{address} was on {_way(found)}: it moved {len(found) - 1} times"
        text += f" until the moment {until!r}" if until else ""
        return passed(f"{text}.") if len(found) - 1 == times else failed(f"{text}, not {times}.")

    return look


@check
def home_after_hold(address: str, hold_s: float) -> Look:
    """`address` left its port once and came back once, when that had been up for the hold time.

    The port is the one that it was first on; it is up again when the last fault there ended.
    """

    def look(timeline: Timeline) -> Answer:
        found = stays(timeline, address)
        if not found:
            return unknown(f"The kernel's watcher recorded nothing about {address}.")
        text = f"{address} was on {_way(found)}"
        if len(found) != 3 or found[0].ports != found[2].ports:
            return failed(f"{text}; it should have left once and come back once.")
        (home, *_) = found[0].ports
        up = [e["t"] for e in timeline.events("fault", home) if e["phase"] == "end"]
        if not up:
            return unknown(f"{text}; when {home} came back was not recorded.")
        after = found[2].t - up[-1]
        text += f"; it was back {after:.3f} s after {home}, hold time {hold_s:g} s"
        # The port is up somewhat before the fault's end is recorded, and noticed somewhat later.
        good = hold_s - NOTED_LATE_S <= after <= hold_s + BACK_LATE_S
        return passed(f"{text}.") if good else failed(f"{text}.")

    return look


@check
def unannounced(host: str, address: str) -> Look:
    """`address` moved during a fault, and `host` was told of that by no announcement.

    On the wire before `host`, between the fault's begin and end, where announcements were seen
    before.
    """

    def look(timeline: Timeline) -> Answer:
        faults = [e for e in timeline.events("fault") if e["phase"] == "begin"]
        if not faults:
            return unknown("No fault was recorded.")
        began = faults[0]["t"]
        ends = [e["t"] for e in timeline.events("fault", faults[0]["where"])
                if e["phase"] == "end" and e["name"] == faults[0]["name"]]  # fmt: skip
        until = min([*ends, scenario_end(timeline)])
        told = [e["t"] for e in claims(timeline, address)
                if e["kind"] == "announcement" and e["where"] == host]  # fmt: skip
        if not any(t < began for t in told):
            return unknown(f"No announcement of {address} was seen at {host} before the fault.")
        if not any(began < state.t < until for state in stays(timeline, address)):
            return failed(f"{address} did not move during the fault.")
        heard = [t for t in told if began < t < until]
        if heard:
            return failed(f"{len(heard)} announcements of {address} reached {host}.")
        return passed(f"{address} moved, and no announcement of it reached {host}.")

    return look


@check
def controller_restarted(times: int, *, moving: int = 0) -> Look:
    """The controller died `times` times or more, ran again after the last, and settled the array.

    `moving`: so many of these deaths or more came in the midst of a move: after a fault had begun
    or ended, and before it had settled the array since.
    """

    def look(timeline: Timeline) -> Answer:
        end = scenario_end(timeline)
        said = [e for e in timeline.events("controller") if e["t"] <= end]
        if not said:
            return unknown("Nothing was heard of a controller.")
        died = [e["t"] for e in said if e["what"] == "died"]
        started = [e["t"] for e in said if e["what"] == "started"]
        settled = [e["t"] for e in said if e["what"] == "settled"]
        text = f"The controller died {len(died)} times"
        if len(died) < times:
            return failed(f"{text}; it should have died {times} times.")
        # One that dies at once has told nothing, not even that it was started; the last one must.
        if not started or started[-1] < died[-1]:
            return failed(f"{text}; it does not run any more.")
        if not settled or settled[-1] < started[-1]:
            return failed(f"{text}; it has not settled the array since.")
        changes = [e["t"] for e in timeline.events("fault") if e["name"] != KILLED]
        within = [t for t in died if _moving(t, changes, settled)]
        text += f", {len(within)} times in the midst of a move, and settled in the end"
        return passed(f"{text}.") if len(within) >= moving else failed(f"{text}, not {moving}.")

    return look


def _moving(t: float, changes: list[float], settled: list[float]) -> bool:
    """Whether something had changed before `t`, and nothing was settled between the two."""
    before = [change for change in changes if change <= t]
    return bool(before) and not any(before[-1] < s < t for s in settled)


@check
def front_restarted() -> Look:
    """What answers at the virtual port died, and was started again after each time."""

    def look(timeline: Timeline) -> Answer:
        end = scenario_end(timeline)
        said = [e for e in timeline.events("virtual-port")
                if e["what"] in ("died", "restarted") and e["t"] <= end]  # fmt: skip
        if not said:
            return unknown("The virtual port was not seen to die.")
        if "died" in {e["where"]: e["what"] for e in said}.values():  # the last word of each
            return failed("The virtual port died and was not started again.")
        first = next(e["t"] for e in said if e["what"] == "died")
        took = (next(e["t"] for e in said if e["what"] == "restarted") - first) * 1000
        return passed(f"The virtual port died and answered again {took:.0f} ms later.")

    return look
