"""Checks of hosts under faults near the limit of what they survive."""

from __future__ import annotations

from lab.checks.disk import load_intervals
from lab.checks.session import logins
from lab.checks.verdict import Answer, Look, check, failed, passed, unknown
from lab.timeline import Timeline


@check
def stayed_logged_in(host: str) -> Look:
    """`host` did not log in again during its load: no session was lost.

    Evidence: the wire, which must also show the login before the load.
    """

    def look(timeline: Timeline) -> Answer:
        loads = load_intervals(timeline, host)
        seen = [e["t"] for e in logins(timeline, host)]
        if not loads or not any(t < loads[0].begin for t in seen):
            return unknown(f"No load of {host} was recorded, or no login before it.")
        again = [t for t in seen if any(one.begin < t < one.end for one in loads)]
        if again:
            after = again[0] - loads[0].begin
            return failed(f"{host} logged in again {after:.3f} s after its load began.")
        seconds = sum(one.end - one.begin for one in loads)
        return passed(f"{host} did not log in again in {seconds:.1f} s of load.")

    return look


@check
def recovered_after_errors(host: str, writes: int) -> Look:
    """The application on `host` saw I/O errors; at least `writes` good writes followed the last."""

    def look(timeline: Timeline) -> Answer:
        done = [e for e in timeline.events("io", host) if e["op"] == "write"]
        if not done:
            return unknown(f"No I/O of {host} was recorded.")
        bad = [e for e in done if e["status"] != "ok"]
        if not bad:
            return failed(f"None of {len(done)} writes of {host} failed; some should have.")
        good = sum(e["t"] > bad[-1]["t"] for e in done)
        text = f"{len(bad)} writes of {host} failed, the last with {bad[-1]['status']}"
        text += f"; {good} good ones followed"
        return passed(f"{text}.") if good >= writes else failed(f"{text}, not {writes}.")

    return look


@check
def frames_dropped(name: str, at_least: int = 1) -> Look:
    """The lossy cable of `name` dropped at least `at_least` frames by its kernel's count."""

    def look(timeline: Timeline) -> Answer:
        counted = timeline.events("netem", name)
        if not counted:
            return unknown(f"No frames were counted at the cable of {name}.")
        dropped, sent = sum(e["dropped"] for e in counted), sum(e["packets"] for e in counted)
        text = f"{dropped} frames of {name} were dropped, {sent} sent"
        return passed(f"{text}.") if dropped >= at_least else failed(f"{text}.")

    return look
