"""Checks of the run itself: no kernel messages of trouble, no wait that timed out."""

from __future__ import annotations

from collections import Counter

from lab.checks.portals import config
from lab.checks.verdict import Answer, Look, check, failed, passed, unknown
from lab.timeline import Timeline


@check
def kernel_quiet(*, but: str | None = None) -> Look:
    """No guest kernel reported trouble (BUG, WARNING, hung task, I/O error).

    `but`: lines with these words are expected ("I/O error", of a disk that was away too long).
    Evidence: `console` events. Every console must have been read to its end, as often as reading
    began. A lab without guest kernels has no console; its configuration must say so.
    """

    def look(timeline: Timeline) -> Answer:
        said = [e for e in timeline.events("kernel-message") if not but or but not in e["line"]]
        if said:
            first = said[0]
            return failed(
                f"{len(said)} unexpected kernel messages; the first, of {first['where']}: "
                f"{first['line'].strip()[:300]}"
            )
        consoles = timeline.events("console")
        ends = Counter(e["where"] for e in consoles if e["phase"] == "end")
        begins = Counter(e["where"] for e in consoles if e["phase"] == "begin")
        read = {where for where in ends if ends[where] >= begins[where]}
        guests = config(timeline).get("kernels")
        unread = {*begins, *(guests or ())} - read
        if guests == [] and not consoles:
            return passed("This lab has no guest kernels.")
        if not read or unread:
            which = ", ".join(sorted(unread)) or "any guest"
            return unknown(f"The console of {which} was not read to its end.")
        text = f"Nothing unexpected on the console of {', '.join(sorted(read))}."
        for failed_boot in timeline.events("boot-failed"):
            text += f" {failed_boot['where']} died before its init once and was started again."
        return passed(text)

    return look


@check
def reached() -> Look:
    """The scenario reached every state that it waited for in time."""

    def look(timeline: Timeline) -> Answer:
        late = timeline.events("wait-timeout")
        if late:
            return failed(f"Not reached in time: {late[0]['what']}; last seen: {late[0]['last']}.")
        if not timeline.events():
            return unknown("Nothing was recorded.")
        return passed("Every state that the scenario waited for was reached in time.")

    return look
