"""Whether the reads of each block agree with its writes: a register, linearizable.

Each write has content of its own, so a read tells which write it saw. Then a block's history is
linearizable if and only if the zones of its values do not collide (P. B. Gibbons and E. Korach,
"Testing Shared Memories", SIAM J. Comput. 26(4), 1997). The zone of a value runs from the first
end of one of its operations to the last start of one. If the end comes first, the block held the
value all the time between (a hold); else there is a moment between start and end at which it did (a
touch). Two holds must not overlap, and no touch may lie within the hold of another value.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from lab.timeline import Event, Timeline

_START = attrgetter("start")
NEVER, ALWAYS = float("inf"), float("-inf")
BLANK = 0
"""The value of a block that was never written."""


class Operation(NamedTuple):
    """A write or a read of one block; `value` is the number of the write, or a word if it is none.

    A write that failed has `sure` False: it took effect before the next acknowledged write of its
    block began, or never; its initiator has given it up by then.
    """

    op: str
    value: int | str
    start: float
    end: float
    sure: bool = True


@dataclass(frozen=True)
class Wrong:
    """What is wrong with a block: one of KINDS, the write that it hit, and what was found."""

    kind: str
    block: int
    write: int | None
    found: int | str


KINDS = ("lost", "stale", "reordered", "torn", "misplaced", "another writer's", "never written")
"""lost: no later read found it. stale: a later read did. reordered: what was found instead is a
write that had failed."""


@dataclass
class Found:
    """What the history of a host's disk tells."""

    writes: int = 0
    unread: int = 0
    """Acknowledged writes that nobody read back."""
    lost: int = 0
    """Acknowledged writes that were lost, hidden or put elsewhere, by reads that were whole."""
    wrong: list[Wrong] = field(default_factory=list)

    @property
    def torn(self) -> int:
        """How many blocks were found torn, at any time."""
        return len({w.block for w in self.wrong if w.kind == "torn"})


def history(timeline: Timeline, host: str) -> Found:
    """The history of all loads of `host`, each by itself: each writes other content."""
    io = timeline.events("io", host)
    begins = [e["t"] for e in timeline.events("load", host) if e["phase"] == "begin"]
    outside = timeline.events("lun-file", host)
    total = Found()
    starts = begins or [ALWAYS]
    for at, begin in enumerate(starts):
        last = at + 1 == len(starts)
        # A load's first operation begins no earlier than it; its read-back may come long after.
        until = NEVER if last else starts[at + 1]
        mine = [e for e in io if e["start"] < until and (at == 0 or e["start"] >= begin)]
        newest = _newest(timeline, host, begin, until)
        blocks = _by_block(mine, outside if last else (), newest)
        wrong: list[Wrong] = []
        for block, operations in sorted(blocks.items()):
            unread, found = judge_block(block, operations)
            total.unread += unread
            wrong += found
        total.writes += sum(e["op"] == "write" and e["status"] == "ok" for e in mine)
        # One write may have many blocks; where nobody knows the write, each block counts.
        hit = {(w.write, w.block if w.write is None else None) for w in wrong if w.kind != "torn"}
        total.lost += len(hit)
        total.wrong += wrong
    return total


def _newest(timeline: Timeline, host: str, begin: float, until: float) -> int | None:
    """The newest write that a load which was cut off had reported; None if the load ended well."""
    recalled = [e for e in timeline.events("recalled", host) if begin <= e["t"] < until]
    if recalled:
        return int(recalled[-1]["newest"])
    told = [e["phase"] for e in timeline.events("load", host) if begin <= e["t"] < until]
    # Where it has no end, any write may be one that it did not report.
    return BLANK if told and told[-1] == "begin" else None


def _by_block(
    io: Iterable[Event], outside: Iterable[Event], newest: int | None
) -> dict[int, list[Operation]]:
    blocks: dict[int, list[Operation]] = defaultdict(list)
    for event in io:
        good, many = event["status"] == "ok", event.get("blocks", 1)
        if event["op"] == "read" and not good:
            continue
        seen = event["seq"] if isinstance(event["seq"], list) else [event["seq"]] * many
        for at, value in enumerate(seen):
            one = Operation(event["op"], value, event["start"], event["t"], good)
            blocks[event["block"] + at].append(one)
    for event in outside:
        for block, value in event.get("found", ()):
            if block in blocks:
                blocks[block].append(Operation("read", value, event["t"], event["t"]))
    if newest is not None:
        _allow(blocks, newest)
    return blocks


def _allow(blocks: dict[int, list[Operation]], newest: int) -> None:
    """Add the writes that a host had no time to report before it or its load was cut off."""
    for operations in blocks.values():
        last = max((o.end for o in operations if o.op == "write"), default=ALWAYS)
        reported = {o.value for o in operations if o.op == "write"}
        # Of several in flight, one with a lower number may end later: but not of the same block.
        since = min([newest, max((v for v in reported if isinstance(v, int)), default=BLANK)])
        unreported = {
            o.value for o in operations
            if o.op == "read" and isinstance(o.value, int) and o.value > since
        } - reported  # fmt: skip
        operations += [Operation("write", v, last, NEVER, False) for v in unreported]


def judge_block(block: int, operations: Iterable[Operation]) -> tuple[int, list[Wrong]]:
    """How many acknowledged writes of the block nobody read back, and what is wrong with it."""
    operations = list(operations)
    if len(operations) == 1 and operations[0].op == "write":
        return int(operations[0].sure), []
    writes = sorted([o for o in operations if o.op == "write"], key=_START)
    reads = sorted([o for o in operations if o.op == "read"], key=_START)
    acked = [o for o in writes if o.sure]
    wrong = [
        Wrong("lost" if o.value == "blank" else str(o.value), block, _before(acked, o), o.value)
        for o in reads if isinstance(o.value, str)
    ]  # fmt: skip
    zones = _zones(writes, acked)
    for read in reads:
        if isinstance(read.value, str):
            continue
        zone = zones.get(read.value)
        if zone is None or read.end < zone.written:
            wrong.append(Wrong("never written", block, _before(acked, read), read.value))
            continue
        zone.end, zone.start = min(zone.end, read.end), max(zone.start, read.start)
        zone.read = True
    wrong += _collisions(block, [z for z in zones.values() if z.read or z.sure], reads)
    return _unread(acked, reads), wrong


@dataclass(slots=True)
class _Zone:
    """The zone of a value: the first end and the last start of its operations."""

    value: int
    written: float
    end: float
    start: float
    sure: bool
    read: bool = False


def _zones(writes: list[Operation], acked: list[Operation]) -> dict[int, _Zone]:
    zones = {BLANK: _Zone(BLANK, ALWAYS, ALWAYS, ALWAYS, sure=False)}
    starts = [o.start for o in acked]
    for one in writes:
        end = one.end
        if not one.sure:
            later = bisect_right(starts, one.end)
            end = starts[later] if later < len(starts) else NEVER
        assert isinstance(one.value, int)
        zones[one.value] = _Zone(one.value, one.start, end, one.start, one.sure)
    return zones


def _collisions(block: int, zones: list[_Zone], reads: list[Operation]) -> list[Wrong]:
    """The values whose zone collides with the hold of one that began before."""
    holds = sorted((z for z in zones if z.end < z.start), key=lambda z: z.end)
    ends = [z.end for z in holds]
    furthest: list[_Zone] = []  # of the holds up to each, the one that lasts longest
    for hold in holds:
        furthest.append(max([*furthest[-1:], hold], key=lambda z: z.start))
    found: list[Wrong] = []
    for at, hold in enumerate(holds[1:]):
        if furthest[at].start > hold.end:
            found.append(_named(block, hold, furthest[at], reads))
    for touch in (z for z in zones if z.end >= z.start):
        at = bisect_right(ends, touch.start) - 1
        if at >= 0 and furthest[at].start >= touch.end:
            found.append(_named(block, touch, furthest[at], reads))
    return found


def _named(block: int, zone: _Zone, hold: _Zone, reads: list[Operation]) -> Wrong:
    newer, older = (zone, hold) if zone.written >= hold.written else (hold, zone)
    seen = any(o.value == newer.value and o.start >= older.start for o in reads)
    kind = "stale" if seen else "lost" if older.sure or older.value == BLANK else "reordered"
    return Wrong(kind, block, newer.value, older.value)


def _before(acked: list[Operation], read: Operation) -> int | None:
    done = [o.value for o in acked if o.end <= read.start]
    return done[-1] if done and isinstance(done[-1], int) else None


def _unread(acked: list[Operation], reads: list[Operation]) -> int:
    """How many of the writes nobody read between their end and the next one's start."""
    starts, unread = [o.start for o in reads], 0
    for at, write in enumerate(acked):
        until = acked[at + 1].start if at + 1 < len(acked) else NEVER
        first = bisect_left(starts, write.end)
        unread += not (first < len(reads) and starts[first] <= until)
    return unread
