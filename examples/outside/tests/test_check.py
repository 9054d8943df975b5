"""The check has an example for each verdict."""

import pytest
from failover_lab_example.check import wrote_after

from lab.checks import Verdict
from lab.timeline import Timeline


@pytest.mark.parametrize(
    ("faults", "writes", "verdict"),
    [
        ([(10.0, "end")], [9.0, 11.0, 12.0], Verdict.PASS),
        ([(10.0, "end")], [9.0, 9.5, 11.0], Verdict.FAIL),
        ([(8.0, "end"), (10.0, "end")], [9.0, 9.5, 11.0], Verdict.FAIL),
        ([(10.0, "begin")], [11.0, 12.0], Verdict.UNKNOWN),
        ([], [11.0, 12.0], Verdict.UNKNOWN),
    ],
)
def test_wrote_after(faults, writes, verdict):
    timeline = Timeline()
    timeline.extend(
        {"t": t, "where": "p1", "kind": "fault", "name": "loose-cable", "phase": phase}
        for t, phase in faults
    )
    timeline.extend(
        {"t": t, "where": "h1", "kind": "io", "op": "write", "status": "ok"} for t in writes
    )
    assert wrote_after("h1", "loose-cable", 2)(timeline).verdict is verdict
