"""The stall of a host's disk when its port dies, for several methods that take turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lab.array.policy import Probing
from lab.bench.harness import in_sandbox
from lab.bench.methods import METHODS, Method
from lab.checks.disk import gaps
from lab.errors import BadInput, LabError, WaitTimeout
from lab.faults import network as faults
from lab.folder import Folder
from lab.guest.image import Image
from lab.host.host import LabHost
from lab.run.lab import Lab, Setup
from lab.timeline import Timeline
from lab.topology import loading
from lab.waiting import wait_for

ROUND = 5
"""Failovers on one lab before the next method's turn."""
FAULTS = {"carrier": faults.cable_pulled, "silent": faults.port_silenced}
_RECOVERY_SECONDS = 90.0
_BLOCKS = 4096
_BEFORE_S = 0.1


@dataclass(frozen=True)
class Sample:
    """One failover; times are milliseconds since the fault, None if the moment did not come.

    `stall`: the longest gap in completed I/O. `detected`: the address left its old port. `acted`:
    the address was up on the new port. `survived`: the same session, without I/O error.
    """

    stall: float
    detected: float | None
    acted: float | None
    survived: bool


def run(
    method_names: Sequence[str],
    fault: str,
    trials: int,
    image: Image,
    say: Callable[[str], None],
    probing: Probing,
) -> dict[str, Any]:
    """Measure `trials` failovers of each method and return the object that --json prints.

    The methods take turns, ROUND failovers at a time, each on its own lab. Raises BadInput for an
    unknown method or fault, Missing if a method's program is not installed.
    """
    if fault not in FAULTS:
        raise BadInput(f"no fault {fault!r}; choose one of {', '.join(FAULTS)}, power")
    methods = []
    for name in method_names:
        if name not in METHODS:
            raise BadInput(f"no method {name!r}; choose one of {', '.join(METHODS)}")
        METHODS[name].require()
        methods.append(METHODS[name])
    samples: dict[str, list[Sample]] = {method.name: [] for method in methods}
    versions: dict[str, str] = {}
    for first in range(0, trials, ROUND):
        count = min(ROUND, trials - first)
        for method in methods:
            say(f"{method.name}, trials {first + 1} to {first + count} of {trials}")
            found = in_sandbox(partial(_round, method, fault, count, image, probing))
            samples[method.name] += [Sample(**s) for s in found["samples"]]
            for what, version in found["versions"].items():
                # A method with another kind of array gets a line of its own.
                known = versions.setdefault(what, version)
                if known != version:
                    versions[f"{what} ({method.name})"] = version
            if "ended" in found:
                say(f"{method.name}: {found['ended']}")
    return {
        "fault": fault,
        "trials": trials,
        "probe": asdict(probing),
        "versions": versions,
        "methods": {name: summary(found) for name, found in samples.items() if found},
    }


def summary(samples: Sequence[Sample]) -> dict[str, Any]:
    """The distribution of the stall and the medians of `detected` and `acted`, milliseconds."""
    stalls = sorted(s.stall for s in samples)
    return {
        "stall_ms": distribution(stalls),
        "detected_ms": _median(s.detected for s in samples),
        "acted_ms": _median(s.acted for s in samples),
        "samples": stalls,
        "survived": sum(s.survived for s in samples),
    }


def distribution(values: Sequence[float]) -> dict[str, float]:
    """Least, median, 95th and 99th percentile (nearest rank), greatest."""
    ordered = sorted(values)

    def rank(share: float) -> float:
        return ordered[max(0, -(-int(share * 100) * len(ordered) // 100) - 1)]

    figures = {
        "min": ordered[0],
        "median": statistics.median(ordered),
        "p95": rank(0.95),
        "p99": rank(0.99),
        "max": ordered[-1],
    }
    return {name: round(value, 2) for name, value in figures.items()}


def _median(values: Any) -> float | None:
    known = [v for v in values if v is not None]
    return round(statistics.median(known), 2) if known else None


def _round(
    method: Method, fault: str, count: int, image: Image, probing: Probing, work: Path
) -> dict[str, Any]:
    """`count` failovers on a new lab; needs the sandbox."""
    (work / ".work").mkdir()
    timeline = Timeline()
    policy = replace(method.policy, probe=probing)
    setup = Setup(loading.topology("one_switch"), image, policy, method.target)
    with Lab(setup, Folder(work), timeline, lambda _: None) as lab, method.running(lab):
        h1 = lab.host("h1")
        found: dict[str, Any] = {"samples": [], "versions": lab.versions()}
        try:
            for _ in range(count):
                # A new session for each failover, because TCP remembers losses: a host then splits
                # a write of 4 KiB, and if only the last piece is lost, the tail-loss probe comes
                # after 200 ms (tcp_schedule_loss_probe, net/ipv4/tcp_output.c). `lab bench
                # endurance` measures many failovers on one connection.
                h1.login()
                # So many blocks that none is written twice: then nothing is read meanwhile. The
                # request of a read is one small segment. If that is lost, the tail-loss probe
                # comes after 200 ms too, and the figure would be that of the dice.
                h1.start_writing(_BLOCKS)
                found["samples"].append(asdict(_failover(lab, h1, method, fault)))
                h1.stop_writing()
                h1.initiator.logout(lab.array.spec.iqn)
        except WaitTimeout as late:
            # The host did not come back, or the address did not go home. That is a result too.
            found["ended"] = str(late)
        return found


def _failover(lab: Lab, h1: LabHost, method: Method, fault: str) -> Sample:
    h1.keeps_writing(200)
    before = h1.session("before")
    port = method.port_of(lab, before.address)
    number = lab.begin(FAULTS[fault](lab, port))
    began = lab.timeline.events("fault")[-1]["t"]
    h1.keeps_writing(200, _RECOVERY_SECONDS)
    after = h1.session("after")
    until = lab.timeline.events("io", h1.name)[-1]["t"]
    lab.end(number)
    sample = _sample(lab.timeline, h1.name, before.address, began, until)
    if method.goes_home:
        wait_for(
            f"{before.address} to return to {port}",
            lambda: method.port_of(lab, before.address),
            until=lambda now: now == port,
            seconds=30,
        )
    lab.settle()
    same = (before.sid, before.device, before.target) == (after.sid, after.device, after.target)
    return Sample(**{**asdict(sample), "survived": sample.survived and same})


def _sample(timeline: Timeline, host: str, address: str, began: float, until: float) -> Sample:
    io = [e for e in timeline.events("io", host) if began - 5 < e["t"] <= until]
    done = [e["t"] for e in io if e["status"] == "ok" and e["t"] >= began - _BEFORE_S]
    # Only gaps near the fault; the later way home may have a gap of its own.
    if not done or done[-1] <= began:
        raise LabError("no I/O completed after the fault")
    stall = max(gaps(done, began - _BEFORE_S, until), key=lambda gap: gap.ms)
    moves = [
        e
        for e in timeline.events("address")
        if e["address"] == address and began <= e["t"] <= until
    ]
    return Sample(
        round(stall.ms, 2),
        _since(began, [e for e in moves if e["op"] == "del"]),
        _since(began, [e for e in moves if e["op"] == "add"]),
        all(e["status"] == "ok" for e in io),
    )


def _since(began: float, events: Sequence[dict[str, Any]]) -> float | None:
    return round((events[0]["t"] - began) * 1000, 2) if events else None
