"""The clock of a guest, brought in line with this machine's.

A guest takes the time from the machine when it boots and then counts for itself; ticks that it
loses while it boots on a busy machine (1 to 50 ms were seen) stay lost. Where the order of events
in two guests matters, its clock is set once after boot; it does not drift from then on.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from lab.commands import Runner
from lab.errors import WaitTimeout

_ROUNDS = 8
_SECONDS = 10.0
# Answers each line with the time, and a line with a number in it by moving the clock that far.
_PROGRAM = """\
import sys, time
for line in sys.stdin:
    if line.strip():
        time.clock_settime(time.CLOCK_REALTIME, time.time() + float(line))
    print(time.time(), flush=True)
"""


def align(runner: Runner, log: Path) -> float:
    """Set the clock of the guest that `runner` reaches; returns by how many seconds it was behind.

    Good to half the shortest round trip of several, some 0.3 ms. Raises WaitTimeout if the guest
    does not answer.
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

    try:
        ask("")  # it starts meanwhile
        behind = min(ask("") for _ in range(_ROUNDS))[1]
        ask(repr(behind))
        return behind
    finally:
        process.close_input()
        process.wait(_SECONDS)
