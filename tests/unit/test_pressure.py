"""What other work took of the processors: not what the lab's own short processes took."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lab.observe import pressure

STAT = """\
cpu  1000 0 100 9000 50 10 5 20 0 0
cpu0 100 0 10 900 5 1 0 2 0 0
cpu1 900 0 90 8100 45 9 5 18 0 0
intr 1
"""
BURN = "import time\nwhile time.process_time() < 0.3: pass"


def test_only_the_processors_that_the_lab_may_use_count():
    """Elsewhere on a large machine others may work as they like: the lab does not wait there."""
    assert pressure.worked_of(STAT, {0}) == pytest.approx(1.13)
    assert pressure.worked_of(STAT, {0, 1}) == pytest.approx(11.35)
    assert pressure.worked_of(STAT.splitlines()[0], {0}) == pytest.approx(11.35), "no more is told"


def test_what_a_process_did_that_began_and_ended_between_two_looks_is_the_labs_own(monkeypatch):
    """A guest's processes are such: its kernel starts one on this machine for each of them."""
    here = pressure.Path(f"/proc/{os.getpid()}")  # in a sandbox there is nobody else's
    monkeypatch.setattr(pressure.Path, "iterdir", lambda self: [here])
    waits = pressure.Waits()
    waits.since_last()
    subprocess.run([sys.executable, "-I", "-S", "-c", BURN], check=True)
    monkeypatch.setattr(pressure, "processors_worked_s", lambda: waits._worked + 0.4)
    waits.since_last()
    assert waits.others < 0.5


def test_a_process_that_was_seen_before_it_ended_counts_once(monkeypatch):
    """What it did is told by itself, and at its end by its parent again."""
    children, worked = {1: 5.0, 2: 0.0}, {1: 7.0, 2: 3.0}
    monkeypatch.setattr(pressure, "worked_s", lambda pid: worked.get(pid, 0.0))
    monkeypatch.setattr(pressure, "children_s", lambda pid: children.get(pid, 0.0))
    monkeypatch.setattr(pressure, "waited_s", lambda pid: 0.0)
    monkeypatch.setattr(pressure, "processors_worked_s", lambda: 100.0)
    waits = pressure.Waits()
    waits._known = {1: (7.0, 0.0, 5.0), 2: (3.0, 0.0, 0.0)}
    monkeypatch.setattr(pressure.Path, "iterdir", lambda self: [pressure.Path("/proc/1")])
    children[1] = 8.25  # it ended after 0.25 s more
    waits.since_last()
    assert [ours for _, ours in waits._looks] == [0.25]


@pytest.mark.parametrize(("theirs", "least", "most"), [(0.004, 0, 5), (0.16, 100, 200)])
def test_many_processes_that_wait_for_each_other_are_not_kept_waiting_by_others(
    monkeypatch, theirs, least, most
):
    """Others cannot keep the lab waiting for longer than they work."""
    worked, waited, total = dict.fromkeys(range(1, 41), 0.0), 0.0, 5.0
    monkeypatch.setattr(pressure, "worked_s", lambda pid: worked[pid])
    monkeypatch.setattr(pressure, "waited_s", lambda pid: waited)
    monkeypatch.setattr(pressure, "children_s", lambda pid: 0.0)
    monkeypatch.setattr(pressure, "processors_worked_s", lambda: total)
    paths = [pressure.Path(f"/proc/{pid}") for pid in worked]
    monkeypatch.setattr(pressure.Path, "iterdir", lambda self: paths)
    waits = pressure.Waits()
    waits.since_last()
    # Two processors, for a tenth of a second: what others did not take, the 40 had.
    total, waited = total + 0.2, 0.095
    worked = dict.fromkeys(worked, (0.2 - theirs) / 40)
    assert least <= waits.since_last() <= most
