"""Many failovers in a row on one lab under load: is data lost, does the controller grow?"""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from lab import checks
from lab.array.policy import Policy
from lab.bench.failover import distribution
from lab.errors import LabError
from lab.faults.network import cable_pulled
from lab.folder import Folder
from lab.guest.image import Image
from lab.run.lab import Lab, Setup
from lab.timeline import Timeline
from lab.topology import loading
from lab.waiting import wait_for

_HOLD_S = 0.3
_AFTER_S = 1.0
"""Seconds after a fault within which a gap counts as its stall."""


def run(image: Image, work: Path, count: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Pull the cable of the serving port `count` times; needs the sandbox.

    Returns the verdict, its checks, the distribution of the stall in milliseconds, and the
    controller's memory (KiB) and descriptors after the first and the last failover.
    """
    (work / ".work").mkdir()
    timeline = Timeline()
    policy = Policy(redirect="fixed", fixed={"h1": "p1"}, hold_s=_HOLD_S)
    used: list[dict[str, int]] = []
    setup = Setup(loading.topology("one_switch"), image, policy)
    with Lab(setup, Folder(work), timeline, say) as lab:
        h1 = lab.host("h1")
        address = h1.login().address
        h1.start_writing()
        h1.keeps_writing()
        for number in range(count):
            port = lab.array.port_of(address)
            pulled = lab.begin(cable_pulled(lab, port))
            h1.keeps_writing(100)
            lab.end(pulled)
            wait_for(
                f"{address} to return to {port}",
                lambda: lab.array.owners(address),
                until=partial(operator.eq, {port}),
                seconds=20,
            )
            used.append(_used(timeline))
            if number % 10 == 9:
                say(f"{number + 1} of {count} failovers")
        h1.stop_and_verify()
    must = [
        checks.session_survived("h1"),
        checks.same_connection("h1"),
        checks.no_io_errors("h1"),
        checks.no_lost_writes("h1"),
        checks.one_owner_of_virtual_address(),
        checks.kernel_quiet(),
    ]
    restarts = len(_started(timeline)) - 1
    findings = [*checks.judge(timeline, must), level(used[0], used[-1], restarts)]
    return {
        "failovers": count,
        "verdict": str(checks.overall(findings)),
        "checks": [finding.as_json() for finding in findings],
        "stall_ms": distribution(stalls(timeline)),
        "controller_first": used[0],
        "controller_last": used[-1],
        "controller_restarts": restarts,
    }


def level(first: dict[str, int], last: dict[str, int], restarts: int) -> checks.Finding:
    """Whether the controller stayed level: at most 10 % more memory and two more descriptors."""
    worn = (
        restarts > 0
        or last["memory_kib"] > first["memory_kib"] * 1.1
        or last["descriptors"] > first["descriptors"] + 2
    )
    verdict = checks.Verdict.FAIL if worn else checks.Verdict.PASS
    text = f"The controller had {first} after the first failover and {last} after the last; "
    return checks.Finding("controller_level", verdict, f"{text}it restarted {restarts} times.")


def stalls(timeline: Timeline) -> list[float]:
    """The longest gap in completed I/O about each fault, in milliseconds."""
    done = [e["t"] for e in timeline.events("io") if e["op"] == "write" and e["status"] == "ok"]
    began = [e["t"] for e in timeline.events("fault") if e["phase"] == "begin"]
    found = []
    for t, following in pairwise([*began, float("inf")]):
        until = min(t + _AFTER_S, following)  # later gaps belong to the next fault
        last = bisect_left(done, until) + (until < following)
        near = done[max(0, bisect_left(done, t) - 2) : last]
        if len(near) < 2:
            raise LabError("no I/O completed around a fault")
        found.append(max(b - a for a, b in pairwise(near)) * 1000)
    return found


def _started(timeline: Timeline) -> list[dict[str, Any]]:
    return [e for e in timeline.events("controller") if e["what"] == "started"]


def _used(timeline: Timeline) -> dict[str, int]:
    """Memory in KiB and open descriptors of the latest controller process (proc(5))."""
    process = Path(f"/proc/{_started(timeline)[-1]['pid']}")
    pages = int((process / "statm").read_text().split()[1])
    return {"memory_kib": pages * 4, "descriptors": len(list((process / "fd").iterdir()))}
