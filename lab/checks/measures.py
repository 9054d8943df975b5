"""The figures of a run, for result.json."""

from __future__ import annotations

from typing import Any

from lab.checks.address import owners_at, ownership
from lab.checks.clocks import array_doubt_ms
from lab.checks.disk import acknowledged, fate, load_intervals, longest_gap
from lab.checks.history import history
from lab.checks.verdict import Verdict
from lab.portal import ip_of
from lab.timeline import Timeline


def measures(timeline: Timeline) -> dict[str, Any]:
    """The figures of the run; one that the timeline does not hold is None or left out.

    `stall_ms` and `iops` are per host under load. `address_move_ms` is per address: the longest
    time from the start of a fault until the kernel has the address up on another port. The fault
    has this machine's clock, the address that of the array's kernel; they agree to
    `clocks_within_ms`. The counts are for all hosts together.
    """
    io = timeline.events("io")
    verified = timeline.events("verified")
    hosts = sorted({e["where"] for e in io} | {e["where"] for e in timeline.events("load")})
    stalls: dict[str, float] = {}
    iops: dict[str, float] = {}
    for host in hosts:
        gap = longest_gap(timeline, host)
        spans = load_intervals(timeline, host)
        done = [e["t"] for e in io if e["where"] == host and e["status"] == "ok"]
        seconds = sum(s.end - s.begin for s in spans)
        if gap is not None and any(e["where"] == host for e in io):
            stalls[host] = round(gap.ms, 3)
        if seconds > 0:
            under = sum(1 for t in done if any(s.begin <= t <= s.end for s in spans))
            iops[host] = round(under / seconds, 1)
    wrote = [host for host in hosts if acknowledged(timeline, host)]
    pasts = {host: history(timeline, host) for host in wrote}
    fates = {fate(timeline, host, past)[0] for host, past in pasts.items()}
    known = bool(verified) and (Verdict.FAIL in fates or Verdict.UNKNOWN not in fates)
    lost, torn = (sum(len(e[what]) for e in verified) for what in ("lost", "torn"))
    return {
        "stall_ms": stalls,
        "iops": iops,
        "acked_writes": sum(len(acknowledged(timeline, host)) for host in hosts),
        "io_errors": sum(e["status"] != "ok" for e in io),
        "lost_writes": max(lost, sum(past.lost for past in pasts.values())) if known else None,
        "torn_writes": max(torn, sum(past.torn for past in pasts.values())) if known else None,
        "logins": len(timeline.events("login")),
        "address_move_ms": address_moves(timeline),
        "clocks_within_ms": round(array_doubt_ms(timeline), 3),
    }


def address_moves(timeline: Timeline) -> dict[str, float]:
    """Address -> milliseconds from a fault's start to the address being up on another port."""
    faults = sorted(e["t"] for e in timeline.events("fault") if e["phase"] == "begin")
    found: dict[str, float] = {}
    for address in sorted({ip_of(e["address"]) for e in timeline.events("address")}):
        states = ownership(timeline, address)
        for began, until in zip(faults, [*faults[1:], float("inf")], strict=False):
            had = owners_at(timeline, address, began)
            new = [s.t for s in states if began < s.t <= until and s.ports and s.ports != had]
            if had and new:
                ms = round((new[0] - began) * 1000, 3)
                found[address] = max(found.get(address, 0.0), ms)
    return found
