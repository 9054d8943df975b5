"""Waiting for a state."""

from __future__ import annotations

import time

import pytest

from lab.errors import WaitTimeout
from lab.waiting import Deadline, wait_for


def test_it_returns_what_was_accepted_and_looks_no_further():
    seen = iter([0, 1, 2, 3])
    assert wait_for("two", lambda: next(seen), until=lambda n: n >= 2, seconds=5, every=0) == 2
    assert next(seen) == 3


def test_it_looks_at_least_once():
    assert wait_for("it", lambda: "there", seconds=0) == "there"


def test_time_out_says_what_how_long_and_what_was_seen_last():
    seen = iter(range(1000))
    began = time.monotonic()
    with pytest.raises(WaitTimeout) as error:
        wait_for("a port", lambda: next(seen), until=lambda _: False, seconds=0.05, every=0.01)
    assert 0.05 <= time.monotonic() - began < 1.0
    assert error.value.what == "a port"
    assert error.value.last == next(seen) - 1 > 0
    assert str(error.value) == f"waited 0.05 s for a port; last seen: {error.value.last}"


def test_a_look_that_breaks_is_not_waited_out():
    def look() -> bool:
        raise KeyError("gone")

    with pytest.raises(KeyError):
        wait_for("it", look, seconds=60)


def test_a_long_last_sight_is_cut():
    with pytest.raises(WaitTimeout) as error:
        wait_for("it", lambda: "x" * 100_000 + "the end", until=lambda _: False, seconds=0)
    assert str(error.value).endswith("xthe end")
    assert len(str(error.value)) < 3000


def test_a_wait_lasts_longer_by_what_the_machine_took():
    """On a busy machine nobody fails for being late; and no wait lasts for ever."""
    deadline = Deadline(0.2)
    time.sleep(0.1)
    Deadline.stolen(0.08)
    assert 0.15 < deadline.left < 0.2
    Deadline.stolen(50)
    time.sleep(0.15)
    assert 0.1 < deadline.left < 0.2  # 0.25 s have passed, of which a fifth counts
    began = time.monotonic()
    with pytest.raises(WaitTimeout):
        wait_for("a state", lambda: Deadline.stolen(1), until=lambda _: False, seconds=0.05)
    assert 0.2 < time.monotonic() - began < 2
