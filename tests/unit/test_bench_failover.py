"""What a failover cost, from the timeline."""

from __future__ import annotations

import pytest

from lab.bench.failover import _sample
from lab.errors import LabError
from lab.timeline import Timeline

ADDRESS = "10.0.0.11"
FAULT = 100.0


def timeline(*ends: float) -> Timeline:
    made = Timeline()
    for t in ends:
        made.add("h1", "io", t=t, op="write", status="ok", start=t - 0.0002)
    for t, op in ((FAULT + 0.002, "del"), (FAULT + 0.003, "add")):
        made.add("p1", "address", t=t, op=op, address=ADDRESS)
    return made


def test_the_stall_is_the_longest_gap_about_the_fault():
    ends = [FAULT - 0.1 + n / 1000 for n in range(100)] + [100.020, 100.021]
    found = _sample(timeline(*ends), "h1", ADDRESS, FAULT, 100.021)
    assert found.stall == pytest.approx(21.0, abs=0.01)
    assert (found.detected, found.acted, found.survived) == (2.0, 3.0, True)


@pytest.mark.parametrize("ends", [[], [99.95, 99.999]])
def test_what_was_over_before_the_fault_is_no_answer(ends):
    with pytest.raises(LabError, match="no I/O completed after the fault"):
        _sample(timeline(*ends), "h1", ADDRESS, FAULT, FAULT + 1)
