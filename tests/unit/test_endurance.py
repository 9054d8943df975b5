import pytest

from lab.bench.endurance import level, stalls
from lab.checks import Verdict
from lab.timeline import Timeline

FIRST = {"memory_kib": 15000, "descriptors": 17}


@pytest.mark.parametrize(
    ("last", "restarts", "verdict"),
    [
        ({"memory_kib": 15100, "descriptors": 18}, 0, Verdict.PASS),
        ({"memory_kib": 17000, "descriptors": 17}, 0, Verdict.FAIL),
        ({"memory_kib": 15000, "descriptors": 20}, 0, Verdict.FAIL),
        (FIRST, 1, Verdict.FAIL),
    ],
)
def test_a_controller_that_wears_out_fails(last, restarts, verdict):
    assert level(FIRST, last, restarts).verdict == verdict


def test_each_gap_counts_for_its_own_fault():
    timeline = Timeline()
    for t in (0.0, 0.05, 0.1, 0.2, 0.3, 0.6, 0.7):  # a gap of 100 ms, then one of 300
        timeline.add("h1", "io", t=t, op="write", status="ok")
    for t in (0.11, 0.31):
        timeline.add("p1", "fault", t=t, phase="begin")
    assert stalls(timeline) == pytest.approx([100, 300])
