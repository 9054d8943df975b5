"""Checks of the run itself: no kernel complained, and every awaited state came."""

from __future__ import annotations

import re
from collections import Counter

from lab.checks.evidence import machine_busy
from lab.checks.portals import config
from lab.checks.verdict import Answer, Look, check, failed, passed, unknown
from lab.evidence import BEGIN, END, EVIDENCE
from lab.timeline import Timeline

_BUG = re.compile(
    r"kernel BUG at|BUG: (?!soft lockup|workqueue lockup)|WARNING: CPU|\bOops\b|Kernel panic"
)
"""What a kernel prints of a mistake in it. Other trouble may come from waiting for too long."""


@check
def kernel_quiet(*, but: str | None = None) -> Look:
    """No guest's kernel printed trouble on its console (BUG, WARNING, hung task, I/O error).

    `but`: lines with these words are expected ("I/O error" of a disk that was away too long). Every
    console must have been read to its end at every boot (evidence of the source "console"). A lab
    without guests has none to read; then the configuration must say so. On a busy machine trouble
    that comes from waiting is unknown; a bug of a kernel is a fail.
    """

    def look(timeline: Timeline) -> Answer:
        said = [e for e in timeline.events("kernel-message") if not but or but not in e["line"]]
        if said:
            first = said[0]
            text = (
                f"{len(said)} unexpected kernel messages; the first, on {first['where']}: "
                f"{first['line'].strip()[:300]}"
            )
            bug = any(_BUG.search(e["line"]) for e in said)
            busy = None if bug else machine_busy(timeline)
            return unknown(f"{busy} {text}") if busy else failed(text)
        consoles = [e for e in timeline.events(EVIDENCE) if e["source"] == "console"]
        ends = Counter(e["where"] for e in consoles if e["phase"] == END)
        begins = Counter(e["where"] for e in consoles if e["phase"] == BEGIN)
        read = {where for where in ends if ends[where] >= begins[where]}
        guests = config(timeline).get("kernels")
        unread = {*begins, *(guests or ())} - read
        if guests == [] and not consoles:
            return passed("This lab has no guest: no host or array has a kernel of its own.")
        if not read or unread:
            which = ", ".join(sorted(unread)) or "any guest"
            return unknown(f"The console of {which} was not read to its end.")
        text = f"Nothing unexpected on the console of {', '.join(sorted(read))}."
        for failed_boot in timeline.events("boot-failed"):
            text += f" {failed_boot['where']} ended once before its init and booted again."
        return passed(text)

    return look


@check(timed=True)
def reached() -> Look:
    """Every state that the scenario waited for came in time."""

    def look(timeline: Timeline) -> Answer:
        late = timeline.events("wait-timeout")
        if late:
            return failed(f"Not in time: {late[0]['what']}; last seen: {late[0]['last']}.")
        if not timeline.events():
            return unknown("Nothing was recorded.")
        return passed("Every awaited state came in time.")

    return look
