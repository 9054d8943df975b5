"""Checks of hosts under heavy load, lossy cables and I/O errors."""

from __future__ import annotations

from lab.checks.disk import load_intervals
from lab.checks.session import logins
from lab.checks.verdict import Answer, Look, check, failed, passed, unknown
from lab.timeline import Timeline


@check(sees=("capture of host", "decoder", "load of host"), timed=True)
def stayed_logged_in(host: str) -> Look:
    """`host` did not log in again during its load, so no session was cut.

    Judged on the wire, where a login before the load must have been seen.
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


@check(sees=("load of host",), timed=True)
def recovered_after_errors(host: str, writes: int) -> Look:
    """The application on `host` saw I/O errors, then at least `writes` good writes.

    A read counts as an error too: no block is written again before it is read.
    """

    def look(timeline: Timeline) -> Answer:
        done = timeline.events("io", host)
        if not done:
            return unknown(f"No I/O of {host} was recorded.")
        bad = [e for e in done if e["status"] != "ok"]
        if not bad:
            return failed(f"None of {len(done)} operations of {host} failed; some should have.")
        good = sum(e["t"] > bad[-1]["t"] and e["op"] == "write" for e in done)
        text = f"{len(bad)} operations of {host} failed, the last with {bad[-1]['status']}"
        text += f"; {good} good writes followed"
        return passed(f"{text}.") if good >= writes else failed(f"{text}, not {writes}.")

    return look


@check
def frames_dropped(name: str, at_least: int = 1) -> Look:
    """The kernel counted at least `at_least` dropped frames at the lossy cable of `name`."""

    def look(timeline: Timeline) -> Answer:
        counted = timeline.events("netem", name)
        if not counted:
            return unknown(f"No frame count of the cable of {name} was recorded.")
        dropped, sent = sum(e["dropped"] for e in counted), sum(e["packets"] for e in counted)
        text = f"The cable of {name} dropped {dropped} frames and passed {sent}"
        return passed(f"{text}.") if dropped >= at_least else failed(f"{text}.")

    return look
