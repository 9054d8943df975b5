"""A check of a region that several hosts share: the swaps of each slot are one chain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from lab.checks.verdict import Answer, Look, check, failed, passed, unknown
from lab.timeline import Event, Timeline

HOSTS = 64
"""A value is a count times so many, plus the number of its host."""
BLANK = 0
"""The value of a slot that nobody has written."""


@check(sees=("swaps",))
def swaps_agree(at_least: int = 1) -> Look:
    """The swaps (COMPARE AND WRITE) of all hosts on each slot are one chain, in order of time.

    No value was replaced by two hosts, none was lost, and no read saw an older value than a read or
    swap that had ended before it. A swap that failed may have been done or not. Each of two hosts
    or more did `at_least` swaps.
    """

    def look(timeline: Timeline) -> Answer:
        events = timeline.events("swap")
        good = [e for e in events if e["op"] == "swap" and e["status"] == "ok"]
        slots: dict[int, list[Event]] = defaultdict(list)
        for event in events:
            if event["status"] != "other" and (event["op"] == "swap" or event["status"] == "ok"):
                slots[event["slot"]].append(event)
        untold = _untold(events)
        if untold:
            return unknown(f"{_name(untold)} was found, but its host did not report so much.")
        for slot, of in sorted(slots.items()):
            wrong = _wrong(of)
            if wrong:
                return failed(f"Slot {slot}: {wrong}.")
        hosts = {e["where"]: sum(g["where"] == e["where"] for g in good) for e in events}
        done = ", ".join(f"{count} of {host}" for host, count in sorted(hosts.items()))
        if len(hosts) < 2 or min(hosts.values()) < at_least:
            return unknown(f"Swaps: {done or 'none'}; each of two hosts should have {at_least}.")
        unread = sum(not _read_at_last(of) for of in slots.values())
        if unread:
            return unknown(f"{unread} slots were not read after the last swap.")
        met = sum(e["status"] == "other" for e in events)
        return passed(
            f"{len(good)} swaps of {len(slots)} shared slots ({done}) are one chain each; "
            f"{met} times another host was first."
        )

    return look


def _untold(events: Sequence[Event]) -> int:
    """A value that was found and is newer than all that its host reported; 0 if there is none.

    A host that is cut off has not reported its last swaps.
    """
    newest: dict[int, int] = {}
    for event in events:
        if event["op"] == "swap":
            host = event["value"] % HOSTS
            newest[host] = max(newest.get(host, 0), event["value"])
    found = [e["found"] for e in events if isinstance(e["found"], int)]
    return next((v for v in found if v > newest.get(v % HOSTS, v)), 0)


def _read_at_last(events: Sequence[Event]) -> bool:
    swaps = [e["t"] for e in events if e["op"] == "swap"]
    return any(e["op"] == "read" and e["start"] >= max(swaps, default=0.0) for e in events)


def _wrong(events: Sequence[Event]) -> str:
    """What contradicts a chain in the events of one slot; "" if nothing does."""
    reads = [e for e in events if e["op"] == "read"]
    for read in reads:
        if isinstance(read["found"], str):
            return f"{read['where']} found it {read['found']}"
    swaps = [e for e in events if e["op"] == "swap"]
    seen = {e["found"] for e in events}
    # One that failed counts if somebody saw its value.
    done = [s for s in swaps if s["status"] == "ok" or s["value"] in seen]
    after: dict[int, Event] = {}
    for swap in done:
        other = after.setdefault(swap["found"], swap)
        if other is not swap:
            both = f"{other['where']} and {swap['where']}"
            return f"{both} both replaced {_name(swap['found'])}"
    places, at = {BLANK: 0}, BLANK
    while at in after:
        at = after[at]["value"]
        places[at] = len(places)
    for event in [*done, *reads]:
        value = event["value"] if event["op"] == "swap" else event["found"]
        if value not in places:
            return f"{_name(value)} is not on the chain, which ends with {_name(at)}"
    return _out_of_order(done, reads, places)


def _out_of_order(done: Sequence[Event], reads: Sequence[Event], places: dict[int, int]) -> str:
    began = {swap["value"]: swap["start"] for swap in done}
    points = [(e["start"], e["t"], places[e["value"]], e) for e in done if e["status"] == "ok"]
    points += [(e["start"], e["t"], places[e["found"]], e) for e in reads]
    for read in reads:
        if read["t"] < began.get(read["found"], read["t"]):
            return f"{read['where']} read {_name(read['found'])} before it was written"
    ended = sorted(points, key=lambda p: p[1])
    newest, upto = 0, 0
    for start, _, place, event in sorted(points, key=lambda p: p[0]):
        while upto < len(ended) and ended[upto][1] < start:
            newest, upto = max(newest, ended[upto][2]), upto + 1
        if place < newest:
            value = event["value"] if event["op"] == "swap" else event["found"]
            return f"{event['where']} saw {_name(value)} after a newer value had been seen"
    return ""


def _name(value: int) -> str:
    return f"value {value // HOSTS} of host {value % HOSTS}" if value else "the blank slot"
