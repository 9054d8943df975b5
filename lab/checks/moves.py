"""Checks of how often addresses move, and of restarts of the controller and the front."""

from __future__ import annotations

from lab.checks.address import Owned, claims, ownership
from lab.checks.clocks import doubt_ms
from lab.checks.moments import scenario_end, time_of
from lab.checks.verdict import Answer, Look, check, failed, passed, unknown
from lab.timeline import Timeline

KILLED = "controller-killed"
"""The name of the fault that kills the controller."""
NOTED_LATE_S = 0.2
"""Seconds by which a busy machine may be late to record the end of a fault."""
BACK_LATE_S = 1.0
"""Seconds after its port's hold time within which an address must be back."""


def stays(timeline: Timeline, address: str, until: float | None = None) -> list[Owned]:
    """Where `address` was, in order: each change to another port, or to several.

    Until the time `until`, or to the end of the scenario.
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


@check(sees=("addresses",), timed=True)
def moved_times(address: str, times: int, *, until: str | None = None) -> Look:
    """`address` moved to another port exactly `times` times by the array kernel's record.

    Counts until the moment `until` that the scenario marks (Lab.mark); None: until its end.
    """

    def look(timeline: Timeline) -> Answer:
        end = time_of(timeline, until) if until else None
        if until and end is None:
            return unknown(f"The scenario did not reach the moment {until!r}.")
        found = stays(timeline, address, end)
        if not found:
            return unknown(f"The address watcher recorded nothing about {address}.")
        text = f"{address} was on {_way(found)}: it moved {len(found) - 1} times"
        text += f" until the moment {until!r}" if until else ""
        return passed(f"{text}.") if len(found) - 1 == times else failed(f"{text}, not {times}.")

    return look


@check(sees=("addresses",), timed=True)
def home_after_hold(address: str, hold_s: float) -> Look:
    """`address` left its first port once and came back once, after the hold time.

    The hold time, `hold_s` seconds, begins when the last fault at that port ends.
    """

    def look(timeline: Timeline) -> Answer:
        found = stays(timeline, address)
        if not found:
            return unknown(f"The address watcher recorded nothing about {address}.")
        text = f"{address} was on {_way(found)}"
        if len(found) != 3 or found[0].ports != found[2].ports:
            return failed(f"{text}; it should have left once and come back once.")
        (home, *_) = found[0].ports
        up = [e["t"] for e in timeline.events("fault", home) if e["phase"] == "end"]
        if not up:
            return unknown(f"{text}; no end of a fault at {home} was recorded.")
        after, doubt = found[2].t - up[-1], doubt_ms(timeline, home) / 1000
        text += f"; it came back {after:.3f} s after {home} did; the hold time is {hold_s:g} s"
        # The port comes up a little before the fault's end is recorded. The controller notices it
        # a little later.
        early, late = hold_s - NOTED_LATE_S - after, after - hold_s - BACK_LATE_S
        if abs(early) <= doubt or abs(late) <= doubt:
            return unknown(f"{text}; the clocks agree only to {doubt * 1000:.1f} ms.")
        return passed(f"{text}.") if early < 0 and late < 0 else failed(f"{text}.")

    return look


@check(sees=("addresses", "capture of host", "decoder"), timed=True)
def unannounced(host: str, address: str) -> Look:
    """`address` moved during the first fault, and no announcement of that reached `host`.

    Judged on the wire at `host`, from the begin to the end of the fault. An announcement before the
    fault must have been seen there.
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


@check(sees=("controller",), timed=True)
def controller_restarted(times: int, *, moving: int = 0) -> Look:
    """The controller died at least `times` times, was restarted, and settled the array.

    At least `moving` of the deaths came during a move: after a fault began or ended, and before
    the controller had settled the array.
    """

    def look(timeline: Timeline) -> Answer:
        end = scenario_end(timeline)
        said = [e for e in timeline.events("controller") if e["t"] <= end]
        if not said:
            return unknown("The controller told nothing.")
        died = [e["t"] for e in said if e["what"] == "died"]
        started = [e["t"] for e in said if e["what"] == "started"]
        settled = [e["t"] for e in said if e["what"] == "settled"]
        text = f"The controller died {len(died)} times"
        if len(died) < times:
            return failed(f"{text}; it should have died {times} times.")
        # A controller that dies at once does not even tell that it started. The last one must.
        if not started or started[-1] < died[-1]:
            doubt = max((doubt_ms(timeline, e["where"]) for e in said), default=0.0)
            if started and died[-1] - started[-1] <= doubt / 1000:
                return unknown(f"{text}; the clocks agree only to {doubt:.1f} ms.")
            return failed(f"{text} and did not start again.")
        if not settled or settled[-1] < started[-1]:
            return failed(f"{text} and did not settle the array after its last start.")
        changes = [e["t"] for e in timeline.events("fault") if e["name"] != KILLED]
        within = [t for t in died if _moving(t, changes, settled)]
        text += f", {len(within)} times during a move, and settled the array in the end"
        return passed(f"{text}.") if len(within) >= moving else failed(f"{text}, not {moving}.")

    return look


def _moving(t: float, changes: list[float], settled: list[float]) -> bool:
    """Whether `t` is after a change and before the controller settled the array."""
    before = [change for change in changes if change <= t]
    return bool(before) and not any(before[-1] < s < t for s in settled)


@check(timed=True)
def front_restarted() -> Look:
    """The front, which answers at the virtual port, died and was started again each time."""

    def look(timeline: Timeline) -> Answer:
        end = scenario_end(timeline)
        said = [e for e in timeline.events("virtual-port")
                if e["what"] in ("died", "restarted") and e["t"] <= end]  # fmt: skip
        if not said:
            return unknown("No death of the front was recorded.")
        if "died" in {e["where"]: e["what"] for e in said}.values():  # the last word of each
            return failed("The front died and was not started again.")
        first = next(e["t"] for e in said if e["what"] == "died")
        took = (next(e["t"] for e in said if e["what"] == "restarted") - first) * 1000
        return passed(f"The front died and answered at the virtual port {took:.0f} ms later.")

    return look
