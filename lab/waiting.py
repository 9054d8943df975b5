"""Waiting for a state; nothing else in the lab sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from lab.errors import WaitTimeout

T = TypeVar("T")

MOST = 5.0
"""A wait lasts at most so many times its seconds, however busy the machine is."""


class Deadline:
    """A time limit of `seconds`, not counting what the machine took from the lab since."""

    _taken_in_all = 0.0

    @classmethod
    def stolen(cls, seconds: float) -> None:
        """The machine kept the lab's processes waiting for `seconds`: all limits move by it."""
        cls._taken_in_all += seconds

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._began, self._taken = time.monotonic(), Deadline._taken_in_all

    @property
    def left(self) -> float:
        """How many seconds are left; 0 if it is over."""
        passed = time.monotonic() - self._began
        taken = min(Deadline._taken_in_all - self._taken, passed * (1 - 1 / MOST))
        return max(0.0, self.seconds - (passed - taken))


def wait_for(
    what: str,
    look: Callable[[], T],
    *,
    until: Callable[[T], bool] = bool,
    seconds: float,
    every: float = 0.02,
) -> T:
    """Call `look` every `every` seconds until `until` accepts its result, and return the result.

    Raises WaitTimeout after `seconds`, not counting those that the machine took from the lab; its
    message has `what`, the limit and the last result.
    """
    deadline = Deadline(seconds)
    while True:
        seen = look()
        if until(seen):
            return seen
        if not deadline.left:
            raise WaitTimeout(what, seconds, seen)
        time.sleep(every)
