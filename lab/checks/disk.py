"""Checks of what the host's applications saw: lost writes, I/O errors, stalls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from lab.checks.evidence import machine_took
from lab.checks.history import Found, Wrong, history
from lab.checks.verdict import Answer, Look, check, failed, passed, unknown
from lab.evidence import EVIDENCE
from lab.timeline import Event, Timeline


@dataclass(frozen=True)
class Gap:
    """A time without completed I/O; `start` and `end` in Unix seconds."""

    start: float
    end: float

    @property
    def ms(self) -> float:
        """Its length in milliseconds."""
        return (self.end - self.start) * 1000


@dataclass(frozen=True)
class Interval:
    """A time of load; `ended` is False if no end was recorded: then `end` is the run's last event,
    or the last I/O before the next load."""

    begin: float
    end: float
    ended: bool


def gaps(completions: Iterable[float], begin: float, end: float) -> list[Gap]:
    """The times between completions, and between them and `begin` and `end`, in order.

    Completions outside the interval do not count: a stall that outlasts the load ends with it.
    """
    points = [begin, *sorted(t for t in completions if begin <= t <= end), end]
    return [Gap(a, b) for a, b in pairwise(points)]


def load_intervals(timeline: Timeline, host: str) -> list[Interval]:
    """When load ran on `host`, from pairs of `load` events; an open one ends with the timeline."""
    found: list[Interval] = []
    open_at: dict[str, float] = {}
    for event in timeline.events("load", host):
        name = event.get("name", "")
        if event["phase"] == "begin":
            if name in open_at:  # the one before was cut off, nobody knows when
                begin = open_at[name]
                seen = [e["t"] for e in timeline.events("io", host) if begin < e["t"] < event["t"]]
                found.append(Interval(begin, max(seen, default=begin), False))
            open_at[name] = event["t"]
        elif name in open_at:
            found.append(Interval(open_at.pop(name), event["t"], True))
    if open_at:
        # What observers say at their end is no part of it.
        last = max(event["t"] for event in timeline if event["kind"] != EVIDENCE)
        found += [Interval(begin, last, False) for begin in open_at.values()]
    return sorted(found, key=lambda i: i.begin)


def longest_gap(timeline: Timeline, host: str) -> Gap | None:
    """The longest gap in completed I/O of `host` under load; None without a load."""
    done = [e["t"] for e in timeline.events("io", host) if e["status"] == "ok"]
    found: list[Gap] = [
        gap for i in load_intervals(timeline, host) for gap in gaps(done, i.begin, i.end)
    ]
    return max(found, key=lambda gap: gap.ms) if found else None


def acknowledged(timeline: Timeline, host: str) -> list[Event]:
    """The writes of `host` that ended with status ok."""
    return [e for e in timeline.events("io", host) if e["op"] == "write" and e["status"] == "ok"]


@check(sees=("load of host",))
def no_lost_writes(host: str) -> Look:
    """Every acknowledged write of `host` was read back, and no read contradicts the history.

    Each is read before its block is written again, or at the end (lab/checks/history.py). The LUN's
    file, read outside of all guests after the run, must agree.
    """

    return lambda timeline: fate(timeline, host, history(timeline, host))


def fate(timeline: Timeline, host: str, past: Found) -> Answer:
    """The answer of no_lost_writes(), from the history `past` of `host`."""
    verified = timeline.events("verified", host)
    lost = [b for v in verified for b in v["lost"]]
    torn = [b for v in verified for b in v["torn"]]
    if lost or torn or past.wrong:
        first = past.wrong[0] if past.wrong else (lost or torn)[0]
        hit = max(len(lost), past.lost)
        return failed(
            f"{hit} acknowledged writes lost and {max(len(torn), past.torn)} blocks torn on "
            f"{host}; the first: {_block(first)}."
        )
    if not past.writes:
        return unknown(f"No write of {host} was acknowledged, so none could be lost.")
    if not verified:
        return unknown(f"{past.writes} writes of {host} acknowledged, but none was read back.")
    compared = verified[-1]["blocks"]
    if not compared:
        return unknown(f"No block of {host} was compared at the end.")
    if past.unread:
        return unknown(
            f"{past.unread} acknowledged writes of {host} were not read back; "
            f"{compared} blocks were at the end."
        )
    outside = timeline.events("lun-file", host)
    for event in outside:
        if "what" in event:
            return unknown(f"The LUN's file of {host} was not read: {event['what']}.")
    text = f"{past.writes} writes acknowledged, each read back; {compared} blocks at the end"
    text += ", and in the LUN's file" if outside else ""
    return passed(f"{text}, none lost or torn.")


def _block(entry: object) -> str:
    if isinstance(entry, Wrong):
        of = f"write {entry.write} of " if entry.write is not None else ""
        return f"{of}block {entry.block} was {entry.kind}, found {entry.found}"
    if isinstance(entry, dict):
        return ", ".join(f"{key} {value}" for key, value in entry.items())
    return f"block {entry}"


@check(sees=("load of host",), timed=True)
def no_io_errors(host: str) -> Look:
    """The application on `host` saw no I/O error."""

    def look(timeline: Timeline) -> Answer:
        events = timeline.events("io", host)
        bad = [e for e in events if e["status"] != "ok"]
        if bad:
            first = bad[0]
            return failed(
                f"{len(bad)} of {len(events)} operations of {host} failed; the first: "
                f"{first['op']} of block {first['block']}, {first['status']}."
            )
        if not events:
            return unknown(f"No I/O of {host} was recorded.")
        return passed(f"{len(events)} operations of {host}, all with status ok.")

    return look


@check(sees=("load of host",))
def stall_below(host: str, ms: float) -> Look:
    """The longest gap in completed I/O of `host` under load is at most `ms` milliseconds."""

    def look(timeline: Timeline) -> Answer:
        intervals = load_intervals(timeline, host)
        if not intervals:
            return unknown(f"No load on {host} was recorded.")
        events = timeline.events("io", host)
        gap = longest_gap(timeline, host)
        if not events or gap is None:
            return unknown(f"No I/O of {host} was recorded.")
        after = gap.start - intervals[0].begin
        text = f"Longest gap {gap.ms:.1f} ms, {after:.3f} s after the load began; limit {ms:g} ms."
        if gap.ms > ms:
            busy = machine_took(timeline, gap.start, gap.end, gap.ms - ms)
            return unknown(f"{busy} {text}") if busy else failed(text)
        if not all(i.ended for i in intervals):
            return unknown(f"{text} No end of the load was recorded; a longer gap may follow.")
        ok = sum(e["status"] == "ok" for e in events)
        return passed(f"{text} {ok} operations completed.")

    return look
