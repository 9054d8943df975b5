"""Waiting for a state; nothing else in the lab sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from lab.errors import WaitTimeout

T = TypeVar("T")

MOST = 5.0
"""A wait lasts at most so many times its seconds, however busy the machine is."""


class _Clock:
    """How many seconds the machine took from the lab so far."""

    stolen = 0.0


def stolen(seconds: float) -> None:
    """The machine let the lab's processes wait for `seconds`: all waits last longer by that."""
    _Clock.stolen += seconds


class Deadline:
    """A time limit of `seconds`, not counting what the machine took from the lab since."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._began, self._stolen = time.monotonic(), _Clock.stolen

    @property
    def left(self) -> float:
        """How many seconds are left; 0 if it is over."""
        passed = time.monotonic() - self._began
        taken = min(_Clock.stolen - self._stolen, passed * (1 - 1 / MOST))
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
