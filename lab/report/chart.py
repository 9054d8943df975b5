"""The geometry of a chart: lanes over one time axis, in the units of its viewBox."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from lab.report.run import Run, Segment
from lab.report.story import controller_text, wire_text
from lab.timeline import Event

WIDTH, LEFT, RIGHT, TOP = 1120.0, 172.0, 16.0, 40.0
PLOT = WIDTH - LEFT - RIGHT
COLUMN = 3.0
SHOWN_GAP_MS = 20.0
MOST_GAPS = 12
MOST_IN_TITLE = 12
COLOURS = 6
CHARACTER = 6.3
"""Approximate width of one character of a label."""


@dataclass
class Box:
    """A rectangle with a colour class, a label if it fits, and a tooltip."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    title: str
    label: str = ""
    label_x: float = 0.0


@dataclass
class Mark:
    """A symbol at a moment."""

    x: float
    y: float
    shape: str
    colour: str
    title: str
    label: str = ""
    left: bool = False


@dataclass
class Lane:
    """One row: a name, and what is drawn in it."""

    name: str
    detail: str
    y: float
    height: float
    bars: str = ""
    boxes: list[Box] = field(default_factory=list)
    gaps: list[Box] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)


@dataclass
class Chart:
    """All that the template needs to draw one."""

    width: float
    height: float
    left: float
    top: float
    lanes: list[Lane]
    spans: list[Box]
    ticks: list[tuple[float, str]]
    unit: str
    legend: list[tuple[str, str]]


class _Scale:
    def __init__(self, begin: float, end: float) -> None:
        self.begin, self.end = begin, end

    def x(self, t: float) -> float:
        share = (t - self.begin) / (self.end - self.begin)
        return LEFT + PLOT * min(1.0, max(0.0, share))

    def holds(self, t: float) -> bool:
        return self.begin <= t <= self.end


def draw(
    run: Run, begin: float, end: float, *, origin: float | None = None, labels: bool = False
) -> Chart:
    """The chart of `run` from `begin` to `end`; the axis counts from `origin` (the load's start).

    With `labels` the events are named in the chart, for a chart of a short time.
    """
    scale = _Scale(begin, end)
    zero = run.origin if origin is None else origin
    unit, factor = ("ms", 1000.0) if labels and end - begin < 3 else ("s", 1.0)
    lanes: list[Lane] = []
    y = TOP

    def lane(name: str, detail: str, height: float) -> Lane:
        nonlocal y
        made = Lane(name, detail, y, height)
        lanes.append(made)
        y += height + 12
        return made

    for host in run.hosts:
        if host in run.gaps or run.completed.get(host):
            _io(run, host, scale, lane(host, "I/O", 46))
        if run.served[host]:
            _segments(run, run.served[host], scale, lane(host, "served by", 20))
    for address, states in run.owners.items():
        if address in run.virtual or len(states) > 1:
            what = "(virtual)" if address in run.virtual else "on"
            _segments(run, run.held(address, begin, end), scale, lane(address, what, 20))
    said = [(e, "tick", "ink", controller_text(e)) for e in run.by_kind["controller"]]
    _marks(said, scale, lane("array", "controller", 20), labels)
    y += lanes[-1].height - 20
    wire = [*run.by_kind["login"], *run.by_kind["logout"], *run.by_kind["async"], *run.announced]
    _marks([_wire(run, e) for e in wire], scale, lane("wire", "logins", 20), labels)
    y += lanes[-1].height - 20
    spans = _spans(run, scale, y - TOP + 12)
    ticks = [(scale.x(zero + v / factor), text) for v, text in _ticks(begin, end, zero, factor)]
    legend = [(_colour(run, p), p) for p in run.ports]
    return Chart(WIDTH, y + 26, LEFT, TOP, lanes, spans, ticks, unit, legend)


def _spans(run: Run, scale: _Scale, height: float) -> list[Box]:
    """The times of faults; faults that begin at the same x share a span."""
    found: list[Box] = []
    labelled = 0.0
    for fault in run.faults:
        if fault.begin >= scale.end or fault.end <= scale.begin:
            continue
        x, end = scale.x(fault.begin), scale.x(fault.end)
        title = f"{fault.name} at {fault.where}, {fault.end - fault.begin:.3f} s"
        if found and x - found[-1].x < 2:
            if found[-1].title.count("\n") < MOST_IN_TITLE:
                found[-1].title += f"\n{title}"
            found[-1].width = max(found[-1].width, end - found[-1].x)
            continue
        label = f"{fault.name} {fault.where}" if x >= labelled else ""
        labelled = x + 8 + len(label) * CHARACTER if label else labelled
        found.append(Box(x, TOP - 18, max(1.5, end - x), height, "fault", title, label))
    return found


def _colour(run: Run, port: str) -> str:
    return f"c{run.ports.index(port) % COLOURS}" if port in run.ports else "none"


def _io(run: Run, host: str, scale: _Scale, lane: Lane) -> None:
    done = run.completed.get(host, [])
    columns = int(PLOT // COLUMN)
    step = (scale.end - scale.begin) / columns
    edges = [bisect_left(done, scale.begin + n * step) for n in range(columns + 1)]
    counts = [b - a for a, b in pairwise(edges)]
    most = max(counts, default=0)
    bottom = lane.y + lane.height
    for n, count in enumerate(counts):
        if count:
            high = max(1.5, lane.height * count / most)
            lane.bars += f"M{LEFT + n * COLUMN:.1f} {bottom:.1f}v-{high:.1f}h2.4v{high:.1f}z"
    if most:
        lane.detail = f"I/O, up to {most / step:,.0f}/s"
    found = [g for g in run.gaps.get(host, []) if g.end > scale.begin and g.start < scale.end]
    taken: list[tuple[float, float]] = []
    for rank, gap in enumerate(found[:MOST_GAPS]):
        if rank and gap.ms < SHOWN_GAP_MS:
            break
        a, b = scale.x(gap.start), scale.x(gap.end)
        label = f"{gap.ms:,.0f} ms" if gap.ms >= 10 else f"{gap.ms:.1f} ms"
        wide = len(label) * CHARACTER + 8
        left = (a + b - wide) / 2 if b - a > wide else b
        if any(left < other[1] and left + wide > other[0] for other in taken):
            label = ""
        else:
            taken.append((left, left + wide))
        title = f"{host}: no operation completed for {gap.ms:.1f} ms"
        lane.gaps.append(
            Box(a, lane.y, max(2.0, b - a), lane.height, "gap", title, label, left + 4)
        )


def _segments(run: Run, segments: Iterable[Segment], scale: _Scale, lane: Lane) -> None:
    for one in segments:
        if one.end < scale.begin or one.begin > scale.end:
            continue
        a, b = scale.x(one.begin), scale.x(one.end)
        port = one.port or "no port"
        label = port if lane.name == one.address else f"{port} · {one.address}"
        if len(label) * CHARACTER > b - a - 8:
            label = port if len(port) * CHARACTER < b - a - 8 else ""
        title = f"{one.address} on {port} for {one.end - one.begin:.3f} s"
        box = Box(a, lane.y, max(1.5, b - a), lane.height, _colour(run, one.port), title, label)
        lane.boxes.append(box)


def _wire(run: Run, event: Event) -> tuple[Event, str, str, str]:
    status = str(event.get("status"))
    shape = {"announcement": "ring", "logout": "down", "async": "square"}.get(
        event["kind"], "cross"
    )
    port = ""
    if event["kind"] == "login" and status == "0x0000":
        shape, port = "circle", run.port_at(str(event["portal"]), event["t"])
    elif event["kind"] == "login" and status.startswith("0x01"):
        shape, port = "diamond", run.port_at(str(event.get("target_address")), event["t"])
    return event, shape, _colour(run, port) if port else "ink", wire_text(run, event)


def _marks(
    found: Iterable[tuple[Event, str, str, str]], scale: _Scale, lane: Lane, labels: bool
) -> None:
    """Put events in a lane; events at the same x share a mark with one tooltip."""
    rows: list[float] = []
    for event, shape, colour, text in sorted(found, key=lambda f: f[0]["t"]):
        if not scale.holds(event["t"]):
            continue
        x = scale.x(event["t"])
        last = lane.marks[-1] if lane.marks else None
        if last and last.shape == shape and x - last.x < 2.5:
            if last.title.count("\n") < MOST_IN_TITLE:
                last.title += f"\n{text}"
            continue
        label = text if labels and len(text) < 60 else ""
        row, left = 0, False
        if label:
            wide = len(label) * CHARACTER + 14
            left = x + wide > WIDTH  # no room to the right of it
            start, stop = (x - wide, x + 8) if left else (x - 8, x + wide)
            row = next((n for n, end in enumerate(rows) if end < start), len(rows))
            rows[row : row + 1] = [stop]
        row = min(row, 7)
        lane.marks.append(Mark(x, lane.y + 10 + row * 15, shape, colour, text, label, left))
    lane.height = max(20.0, min(len(rows), 8) * 15.0 + 5)


def _ticks(begin: float, end: float, zero: float, factor: float) -> list[tuple[float, str]]:
    low, high = (begin - zero) * factor, (end - zero) * factor
    rough = (high - low) / 9
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    digits = max(0, -math.floor(math.log10(step)))
    first = math.ceil(low / step)
    count = int(high / step - first) + 1
    return [(n * step, f"{n * step:.{digits}f}") for n in range(first, first + count)]
