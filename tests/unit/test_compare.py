"""Two suites are compared: verdicts, and stalls beyond noise."""

import json
import random
from collections import Counter
from dataclasses import replace

import pytest

from lab.cli.main import main
from lab.errors import BadInput
from lab.suite import compare, records
from lab.suite.cells import Cell, turns

CELL = Cell("port-takeover", "tgt", "open-iscsi", "trixie")


def suite(folder, stalls, verdict="pass"):
    cells = turns([CELL], len(stalls))
    made = records.make(folder, cells, [], 1)
    for cell, ms in zip(cells, stalls, strict=True):
        made.add(
            records.Record(cell.id, cell.kind, verdict, "", 1.0, 5.0, "cells/x", 1, {"h1": ms})
        )
    return folder


def run(monkeypatch, capsys, *argv):
    monkeypatch.setattr("sys.argv", ["lab", *map(str, argv)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr()


def test_a_slower_one_is_a_regression_and_a_faster_one_is_none(tmp_path, monkeypatch, capsys):
    quick = suite(tmp_path / "quick", [10.0, 11.0, 12.0, 13.0, 14.0])
    slow = suite(tmp_path / "slow", [40.0, 41.0, 42.0, 43.0, 44.0])
    code, told = run(monkeypatch, capsys, "compare", quick, slow)
    assert code == 1
    assert "median 12.0 → 42.0 ms" in told.out.replace("\n", " ")
    code, told = run(monkeypatch, capsys, "compare", slow, quick, "--json")
    assert code == 0
    assert [one["worse"] for one in json.loads(told.out)] == [False]


def test_noise_is_no_regression(tmp_path):
    one = suite(tmp_path / "one", [10.0, 30.0, 12.0, 20.0, 14.0])
    other = suite(tmp_path / "other", [28.0, 11.0, 13.0, 31.0, 15.0])
    assert compare.compare(compare.load(one), compare.load(other)) == []


def test_a_pass_that_fails_is_a_regression(tmp_path):
    one = suite(tmp_path / "one", [10.0])
    other = suite(tmp_path / "other", [1000.0], "fail")
    (change,) = compare.compare(compare.load(one), compare.load(other))
    assert (change.worse, change.what) == (True, "1 pass → 1 fail")
    (change,) = compare.compare(compare.load(other), compare.load(one))
    assert not change.worse


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        (["pass"], ["fail"], [True]),
        (["flaky"], ["fail"], [True]),
        (["unknown"], ["fail"], [True]),
        (["fail"], ["unknown"], [False]),
        (["pass", "fail"], ["fail", "fail"], [True]),
        (["pass", "fail"], ["pass", "pass"], [False]),
        (["pass", "unknown"], ["pass", "fail"], [True]),
        (["pass"] * 9 + ["fail"], ["pass"] + ["fail"] * 9, [True]),
        (["pass"] + ["fail"] * 9, ["pass"] * 9 + ["fail"], [False]),
        (["pass"] * 9 + ["fail"], ["pass"] * 8 + ["fail"] * 2, []),
        (["pass"], ["missing"], [True]),
    ],
)
def test_which_changes_of_verdicts_are_regressions(before, after, worse):
    old, new = ({"k": compare.Seen(Counter(of), {})} for of in (before, after))
    assert [one.worse for one in compare.compare(old, new)] == worse


def test_a_cell_that_did_not_run_is_a_regression(tmp_path):
    one = suite(tmp_path / "one", [10.0])
    lost = records.make(tmp_path / "lost", [CELL], [], 1)
    (change,) = compare.compare(compare.load(one), compare.load(lost.folder))
    assert (change.worse, change.what) == (True, "1 pass → 1 not run")


def test_runs_can_be_compared_with_suites(tmp_path):
    one = suite(tmp_path / "one", [10.0])
    result = {"scenario": CELL.scenario, "target": "tgt", "initiator": "open-iscsi"}
    result |= {"release": "trixie", "verdict": "pass", "measures": {"stall_ms": {"h1": 10.0}}}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "result.json").write_text(json.dumps(result))
    assert compare.compare(compare.load(one), compare.load(tmp_path / "run")) == []


def test_what_cannot_be_compared(tmp_path, monkeypatch, capsys):
    one = suite(tmp_path / "one", [10.0])
    code, told = run(monkeypatch, capsys, "compare", one, tmp_path / "nothing")
    assert (code, told.out) == (2, "")
    assert "neither a suite's folder nor a run folder" in told.err
    elsewhere = {replace(CELL, target="lio").kind: compare.Seen({"pass": 1}, {})}
    with pytest.raises(BadInput, match="no cell in common"):
        compare.compare(compare.load(one), elsewhere)


def test_p_values():
    # Exact: of the 20 ways to choose 3 of 6, two are as far off as this.
    assert compare.p_value([1, 2, 3], [4, 5, 6]) == pytest.approx(0.1)
    assert compare.p_value([1, 1, 1, 1], [1, 1, 1, 1]) == 1.0
    assert compare.p_value([1], []) == 1.0
    # By approximation, for larger samples: about one in twenty of no difference looks like one.
    chance = random.Random(1)
    samples = [[chance.gauss(0, 1) for _ in range(20)] for _ in range(400)]
    wrong = sum(
        compare.p_value(a, b) < 0.05 for a, b in zip(samples[::2], samples[1::2], strict=True)
    )
    assert 2 <= wrong <= 20
