"""Set a guest's clock to this machine's.

A guest takes the time from the machine when it boots and then counts ticks. Ticks lost during boot
on a busy machine (1 to 50 ms were seen) stay lost. Where the order of events in two guests matters,
each clock is set once after boot; it does not drift after that.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

from lab.commands import Runner
from lab.errors import WaitTimeout

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


@dataclass(frozen=True)
class Clock:
    """How many seconds a guest's clock was behind before it was set, and how well it agrees with
    this machine's since: within half the shortest round trip."""

    behind_s: float
    within_s: float


def align(runner: Runner, log: Path) -> Clock:
    """Set the clock of the guest that `runner` reaches.

    The uncertainty is half the shortest of several round trips, about 0.3 ms. Raises WaitTimeout if
    the guest does not answer.
    """
    answered, told = threading.Event(), [0.0]

    def hear(line: str) -> None:
        told.append(float(line))
        answered.set()

    process = runner.start(["python3", "-S", "-E", "-u", "-c", _PROGRAM], log=log, on_line=hear)

    def ask(text: str) -> tuple[float, float]:
        answered.clear()
        began = time.time()
        process.send(text)
        if not answered.wait(_SECONDS):
            raise WaitTimeout(f"the clock of {runner.host}", _SECONDS, told[-1])
        ended = time.time()
        return ended - began, (began + ended) / 2 - told[-1]

    def measure() -> tuple[float, float]:
        best = min(ask("") for _ in range(_ROUNDS))
        for _ in range(_MORE_ROUNDS):  # on a busy machine quick answers are rare
            if best[0] <= _GOOD_S:
                break
            best = min(best, ask(""))
        return best

    try:
        ask("")  # the program is still starting
        behind = measure()[1]
        ask(repr(behind))
        trip, left = measure()
        return Clock(behind, abs(left) + trip / 2)
    finally:
        process.close_input()
        process.wait(_SECONDS)
