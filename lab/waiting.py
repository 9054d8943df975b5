"""Waiting for a state: the only place in the lab that sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from lab.errors import WaitTimeout

T = TypeVar("T")


def wait_for(
    what: str,
    look: Callable[[], T],
    *,
    until: Callable[[T], bool] = bool,
    seconds: float,
    every: float = 0.02,
) -> T:
    """Call `look` every `every` seconds until `until` accepts its result, and return the result.

    Raises WaitTimeout after `seconds`; it names `what`, the limit and the last result.
    """
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if until(seen):
            return seen
        if time.monotonic() >= deadline:
            raise WaitTimeout(what, seconds, seen)
        time.sleep(every)
