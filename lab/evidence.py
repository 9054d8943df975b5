"""What an observer saw: from when to when, where it has a gap, and that it ended well."""

from __future__ import annotations

from lab.timeline import Event, Timeline

EVIDENCE = "evidence"
"""The kind of these events. `source` says what is observed, `where` at which place, and `phase` is
one of the four below; `what` is the reason of a gap."""
BEGIN, GAP, BROKEN, END = "begin", "gap", "broken", "end"


def gaps(timeline: Timeline) -> list[Event]:
    """What observers may have missed, and those that broke, of all sources and places."""
    return [e for e in timeline.events(EVIDENCE) if e["phase"] in (GAP, BROKEN)]


class Evidence:
    """An observer's own word on the timeline, so that a check knows what could have been missed.

    Sources: "addresses" (of an array's kernel), "capture" (of a host's cable), "decoder", "console"
    and "clock" (of a guest), "load" and "swaps" (of a host), "controller", "machine". An observer
    calls begin() when it sees, gap() for each time that it may have missed something, and end()
    when it has seen everything to its end; broke() instead if it will see nothing more. The judge
    turns a pass over a gap into unknown (lab.checks.judge).
    """

    def __init__(self, timeline: Timeline, where: str, source: str) -> None:
        self._timeline, self._where, self._source = timeline, where, source
        self.open = self._over = False

    def begin(self, *, t: float | None = None) -> None:
        """From now on (or `t`, Unix seconds) it sees."""
        self.open, self._over = True, False
        self._add(BEGIN, t)

    def gap(self, what: str, *, since: float | None = None, t: float | None = None) -> None:
        """It may have missed something between `since` and `t`, for the reason `what`.

        `since` None: since it began.
        """
        more = {"what": what} if since is None else {"what": what, "since": round(since, 6)}
        self._add(GAP, t, **more)

    def broke(self, what: str) -> None:
        """It sees nothing more, and what it has seen may not be all.

        This holds before begin() too. Nothing happens if it has ended or broken before.
        """
        if not self._over:
            self.open, self._over = False, True
            self._add(BROKEN, None, what=what)

    def end(self) -> None:
        """It has seen everything to its end. Nothing happens if it has ended or broken before."""
        if self.open:
            self.open, self._over = False, True
            self._add(END, None)

    def _add(self, phase: str, t: float | None, **more: object) -> None:
        self._timeline.add(self._where, EVIDENCE, t=t, source=self._source, phase=phase, **more)
