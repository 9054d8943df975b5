"""The catalogue as tests of pytest, one for each cell: `pytest --pyargs lab.suite`."""

from __future__ import annotations

import pytest

from lab.suite.records import Record


def test_scenario(tries: list[Record]) -> None:
    """Its promises hold, at the first try."""
    for number, record in enumerate(tries, 1):
        if record.verdict != "pass":
            later = "flaky: passed later; " if tries[-1].verdict == "pass" else ""
            pytest.fail(f"{later}try {number}: {record.why}\n{record.folder}", pytrace=False)
