"""A guest's clock: set to this machine's after each boot, and measured against it.

A guest takes the time from the machine when it boots and then counts ticks. Ticks lost during boot
on a busy machine (1 to 50 ms were seen) stay lost. So its clock is set once after each boot. It
does not drift after that; the second measurement, at the end, shows that.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from lab.commands import Runner
from lab.errors import LabError, WaitTimeout
from lab.evidence import Evidence
from lab.timeline import Timeline

_ROUNDS = 8
_MORE_ROUNDS = 100
_GOOD_S = 0.0008
_SECONDS = 10.0
# Answers each line with the time. A line with a number first moves the clock by that many seconds,
# in one step (adjtimex(2), ADJ_SETOFFSET and ADJ_NANO): reading and then setting the clock would
# lose the time in between.
_PROGRAM = """\
import ctypes, math, sys, time
libc = ctypes.CDLL(None, use_errno=True)
class Timex(ctypes.Structure):
    _fields_ = [("modes", ctypes.c_uint), ("numbers", ctypes.c_long * 8),
                ("sec", ctypes.c_long), ("nsec", ctypes.c_long), ("rest", ctypes.c_char * 256)]
for line in sys.stdin:
    if line.strip():
        sec = math.floor(float(line))
        one = Timex(modes=0x2100, sec=sec, nsec=int((float(line) - sec) * 1e9))
        if libc.adjtimex(ctypes.byref(one)) < 0:
            sys.exit("adjtimex: error %d" % ctypes.get_errno())
    print(time.time(), flush=True)
"""


class GuestClock:
    """The clock of the guest that `runner` reaches; a program in it answers with its time.

    Each measurement is a `clock` event: `offset_ms` is how far the guest is behind this machine,
    and `within_ms` the uncertainty, half the shortest of several round trips, about 0.3 ms.
    """

    def __init__(self, runner: Runner, timeline: Timeline, log: Path) -> None:
        self._runner, self._timeline = runner, timeline
        self._evidence = Evidence(timeline, runner.host, "clock")
        self._answered, self._told = threading.Event(), 0.0
        argv = ["python3", "-S", "-E", "-u", "-c", _PROGRAM]
        self._process = runner.start(argv, log=log, on_line=self._hear)

    def _hear(self, line: str) -> None:
        self._told = float(line)
        self._answered.set()

    def begin(self) -> None:
        """Set it, and measure what is left; WaitTimeout if the guest does not answer."""
        self._ask("")  # the program is still starting
        _, behind = self._best()
        self._ask(f"{behind:.9f}")
        self._measure("begin")
        self._evidence.begin()

    def end(self) -> None:
        """Measure it for the last time. The program ends with its guest."""
        try:
            self._measure("end")
        except LabError as lost:
            self._evidence.broke(str(lost))
        else:
            self._evidence.end()

    def gone(self) -> None:
        """Its guest lost its power: there is no clock to measure any more."""
        self._evidence.end()

    def _measure(self, moment: str) -> None:
        trip, offset = self._best()
        self._timeline.add(
            self._runner.host, "clock", moment=moment, offset_ms=round(offset * 1000, 3),
            within_ms=round(trip * 500, 3),
        )  # fmt: skip

    def _best(self) -> tuple[float, float]:
        """The shortest of several round trips, and how far the guest was behind then; seconds."""
        best = min(self._ask("") for _ in range(_ROUNDS))
        for _ in range(_MORE_ROUNDS):  # on a busy machine quick answers are rare
            if best[0] <= _GOOD_S:
                break
            best = min(best, self._ask(""))
        return best

    def _ask(self, text: str) -> tuple[float, float]:
        self._answered.clear()
        began = time.time()
        self._process.send(text)
        if not self._answered.wait(_SECONDS):
            raise WaitTimeout(f"the clock of {self._runner.host}", _SECONDS, self._told)
        ended = time.time()
        return ended - began, (began + ended) / 2 - self._told
