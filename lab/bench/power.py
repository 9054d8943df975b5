"""The stall of a disk when a head of the array loses its power, and the parts of that time.

The connections break. Most of the time is the host's: it waits DefaultTime2Wait and logs in again.
"""

from __future__ import annotations

import statistics
import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lab.array.policy import Policy
from lab.bench.failover import distribution
from lab.bench.harness import in_sandbox
from lab.checks.disk import gaps
from lab.errors import BadInput, LabError
from lab.faults.heads import head_powered_off, heads
from lab.folder import Folder
from lab.guest.image import Image
from lab.host.host import LabHost
from lab.run.lab import Lab, Setup
from lab.timeline import Event, Timeline
from lab.topology import loading
from lab.waiting import wait_for

ROUND = 5
"""Power cuts on one lab before the next method's turn."""
_RECOVERY_SECONDS = 90.0
_BOOT_SECONDS = 60.0
_BEFORE_S = 0.1
TIME2WAIT = "DefaultTime2Wait"
PARTS = {
    "detected": "the controller sees the head's link down, or misses the head for a second",
    "fenced": "the power switch confirms that the head is off",
    "moved": "the other head has the address and announces it",
    "reset": "the other head resets the host's connection",
    "reconnected": "the host connects to the virtual port: Time2Wait, and iscsid",
    "redirected": "the virtual port redirects the login",
    "logged_in": "the data port accepts the login",
    "first_io": "the first operation completes",
}
"""The moments after the fault, in order; each ends a part of the time."""


@dataclass(frozen=True)
class Method:
    """A host and an array that agree on `time2wait` seconds.

    Both must offer it: the greater value counts (RFC 7143, 13.15), and open-iscsi offers 2.
    """

    name: str
    time2wait: int

    @property
    def what(self) -> str:
        """The description in the table."""
        return f"two heads, our controller, Time2Wait {self.time2wait} s"

    @property
    def policy(self) -> Policy:
        """The array's policy."""
        parameters = {TIME2WAIT: str(self.time2wait)}
        return Policy(redirect="fixed", fixed={"h1": "a1a"}, hold_s=0.3, parameters=parameters)


METHODS = {m.name: m for m in (Method("time2wait-0", 0), Method("time2wait-2", 2))}


@dataclass(frozen=True)
class Sample:
    """One power cut; times are milliseconds.

    `stall`: the longest gap in completed I/O. `moments`: those of PARTS since the fault (None: not
    seen). `survived`: session and data are intact.
    """

    stall: float
    moments: dict[str, float | None]
    survived: bool


def run(
    method_names: Sequence[str], fault: str, trials: int, image: Image, say: Callable[[str], None]
) -> dict[str, Any]:
    """Measure `trials` power cuts of each method; the result is like that of failover.run().

    Raises BadInput for an unknown method.
    """
    unknown = [name for name in method_names if name not in METHODS]
    if unknown:
        known = ", ".join(METHODS)
        raise BadInput(f"no method {unknown[0]!r} for power cuts; choose one of {known}")
    samples: dict[str, list[Sample]] = {name: [] for name in method_names}
    needless = dict.fromkeys(method_names, 0)
    versions: dict[str, str] = {}
    for first in range(0, trials, ROUND):
        count = min(ROUND, trials - first)
        for name in method_names:
            say(f"{name}, trials {first + 1} to {first + count} of {trials}")
            found = in_sandbox(partial(_round, METHODS[name], count, image))
            samples[name] += [Sample(**s) for s in found["samples"]]
            needless[name] += found["needless"]
            versions.update(found["versions"])
    methods = {
        name: {**summary(METHODS[name], found), "needless_power_cuts": needless[name]}
        for name, found in samples.items()
    }
    return {"fault": fault, "trials": trials, "versions": versions, "methods": methods}


def _round(method: Method, count: int, image: Image, work: Path) -> dict[str, Any]:
    """`count` power cuts of alternate heads on a new lab; needs the sandbox."""
    (work / ".work").mkdir()
    timeline = Timeline()
    setup = Setup(loading.topology("two_heads"), image, method.policy, target="lio")
    trials: list[tuple[float, float, str, bool]] = []
    folder = Folder(work)
    with Lab(setup, folder, timeline, lambda _: None) as lab:
        h1 = lab.host("h1")
        h1.open_iscsi.configure(f"node.session.iscsi.{TIME2WAIT}", str(method.time2wait))
        h1.login()
        h1.start_writing()
        trials = [_power_cut(lab, h1) for _ in range(count)]
        h1.stop_and_verify()
        versions = lab.versions()
    lost = sum(len(e["lost"]) + len(e["torn"]) for e in timeline.events("verified"))
    syns = connects(folder.captures / "h1.pcap")
    return {
        "samples": [asdict(_sample(timeline, syns, *trial, lost=lost)) for trial in trials],
        "versions": versions,
        "needless": sum(e["what"] == "fenced" for e in timeline.events("power")) - count,
    }


def _power_cut(lab: Lab, h1: LabHost) -> tuple[float, float, str, bool]:
    """Cut the serving head: begin, end, the address that served the host, same session or not."""
    h1.keeps_writing(200)
    before = h1.session("before")
    head = lab.array.port_of(before.address)
    number = lab.begin(head_powered_off(lab, head))
    began = lab.timeline.events("fault")[-1]["t"]
    h1.keeps_writing(200, _RECOVERY_SECONDS)
    after = h1.session("after")
    until = lab.timeline.events("io", h1.name)[-1]["t"]
    lab.end(number)
    lab.settle()
    heads(lab).power_on_dark()  # one cut off for nothing, on a machine that was too busy
    wait_for(
        "both heads to be heard",
        lambda: _states(lab.timeline),
        until=lambda states: set(states.values()) == {"head-up"},
        seconds=_BOOT_SECONDS,
    )
    same = (before.sid, before.device, before.target) == (after.sid, after.device, after.target)
    return began, until, before.address, same


def _states(timeline: Timeline) -> dict[str, str]:
    """The controller's latest word on each head."""
    told = timeline.events("controller")
    return {e["head"]: e["what"] for e in told if e["what"].startswith("head-")}


def _sample(
    timeline: Timeline,
    syns: Sequence[tuple[float, str]],
    began: float,
    until: float,
    address: str,
    same: bool,
    *,
    lost: int,
) -> Sample:
    io = [e for e in timeline.events("io", "h1") if began - 5 < e["t"] <= until]
    done = [e["t"] for e in io if e["status"] == "ok" and e["t"] >= began - _BEFORE_S]
    if not done or done[-1] <= began:
        raise LabError("no I/O completed after the power cut")
    stall = max(gaps(done, began - _BEFORE_S, until), key=lambda gap: gap.ms)

    def first(kind: str, wanted: Callable[[Event], bool]) -> float | None:
        found = (e["t"] for e in timeline.events(kind) if began < e["t"] <= until and wanted(e))
        return _ms(next(found, None), began)

    virtual = timeline.events("config")[-1]["virtual"][0]
    moments = {
        "detected": first("controller", lambda e: e["what"] == "fence"),
        "fenced": first("power", lambda e: e["what"] == "fenced"),
        # By the wire, because a guest notices it some milliseconds late.
        "moved": first("announcement", lambda e: e["address"] == address),
        "reset": first(
            "hung-up", lambda e: e["how"] == "reset" and e["portal"].startswith(f"{address}:")
        ),
        "reconnected": _ms(
            next((t for t, to in syns if began < t <= until and to == virtual), None), began
        ),
        "redirected": first("login", lambda e: e["status"] == "0x0101"),
        "logged_in": first("login", lambda e: e["status"] == "0x0000"),
        "first_io": _ms(next((t for t in done if t > began + stall.ms / 2000), None), began),
    }
    whole = all(e["status"] == "ok" for e in io) and not lost
    return Sample(round(stall.ms, 2), moments, whole and same)


def _ms(t: float | None, began: float) -> float | None:
    return None if t is None else round((t - began) * 1000, 2)


def connects(capture: Path) -> list[tuple[float, str]]:
    """Time and IPv4 destination of each TCP SYN in `capture`.

    `capture` is a pcap file of Ethernet frames with nanoseconds (pcap-savefile(5)).
    """
    data, at = capture.read_bytes(), 24
    found = []
    while at + 16 <= len(data):
        seconds, nanoseconds, kept, _ = struct.unpack_from("=IIII", data, at)
        frame = data[at + 16 : at + 16 + kept]
        at += 16 + kept
        if len(frame) < 54 or frame[12:14] != b"\x08\x00" or frame[23] != 6:
            continue
        tcp = 14 + (frame[14] & 15) * 4
        if frame[tcp + 13] & 0x12 == 0x02:
            address = ".".join(str(byte) for byte in frame[30:34])
            found.append((seconds + nanoseconds / 1e9, address))
    return found


def summary(method: Method, samples: Sequence[Sample]) -> dict[str, Any]:
    """The summary of failover.py, plus medians of all moments and parts, in milliseconds.

    `initiator_ms` is the host's share: the time from the move of the addresses to the first I/O.
    """
    moments = {name: _median([s.moments[name] for s in samples]) for name in PARTS}
    parts: dict[str, float | None] = {}
    names = list(PARTS)
    for before, name in zip([None, *names], names, strict=False):
        spans = [_span(s.moments, before, name) for s in samples]
        parts[name] = _median(spans)
    own = [_span(s.moments, "moved", "first_io") for s in samples]
    stalls = sorted(s.stall for s in samples)
    return {
        "what": method.what,
        "stall_ms": distribution(stalls),
        "detected_ms": moments["detected"],
        "acted_ms": moments["moved"],
        "moments_ms": moments,
        "parts_ms": parts,
        "initiator_ms": _median(own),
        "slowest_ms": max(samples, key=lambda s: s.stall).moments,
        "samples": stalls,
        "survived": sum(s.survived for s in samples),
    }


def _span(moments: dict[str, float | None], before: str | None, name: str) -> float | None:
    start, end = moments[before] if before else 0.0, moments[name]
    return None if start is None or end is None else end - start


def _median(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return round(statistics.median(known), 2) if known else None
