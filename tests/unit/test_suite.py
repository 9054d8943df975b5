"""The cells of the suite, their shares, their records, and what is reported of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lab.cli.main import main
from lab.cli.suite import columns
from lab.errors import BadInput, LabError
from lab.suite import by_pytest, records, reports, running
from lab.suite.cells import Absent, Cell, Selection, choose, parse_shard, share, turns

CELL = Cell("port-loss", "tgt", "open-iscsi", "trixie")
OTHER = replace(CELL, scenario="port-takeover")


def record(cell, verdict, **more) -> records.Record:
    given = {"why": "" if verdict == "pass" else f"because {verdict}", "started": 1.0, **more}
    folder = f"cells/{cell.id}"
    return records.Record(cell.id, cell.kind, verdict, seconds=2.0, folder=folder, seed=1, **given)


@pytest.fixture
def suite(tmp_path):
    absent = [Absent(replace(CELL, target="lio"), "it cannot\ndo this")]
    return records.make(tmp_path / "suite", [CELL, OTHER], absent, 7)


def test_a_scenario_runs_on_its_first_target_unless_one_is_asked_for():
    names = Selection(("port-loss", "array-power-cut"))
    cells, absent = choose(names)
    assert [(c.scenario, c.target) for c in cells] == [
        ("port-loss", "tgt"), ("array-power-cut", "lio")
    ]  # fmt: skip
    assert absent == []
    cells, absent = choose(replace(names, targets=("all",)))
    assert [a.cell.kind for a in absent] == ["array-power-cut.tgt.open-iscsi.trixie"]
    assert "needs --target lio" in absent[0].reason
    assert len(cells) == 3


def test_filters():
    assert {c.scenario for c in choose(Selection(families=("heads",)))[0]} >= {"head-power-cut"}
    assert len(choose(Selection(smoke=True))[0]) == 4
    assert {c.release for c in choose(Selection(smoke=True, releases=("all",)))[0]} >= {"forky"}
    assert [c.scenario for c in choose(Selection(("port-l*",)))[0]] == ["port-loss"]


BAD = [
    (["--scenario", "port-los"], "did you mean port-loss?"),
    (["--scenario", "nothing-*"], "no scenario is named like 'nothing-*'"),
    (["--target", "tgd"], "no target 'tgd'"),
    (["--family", "port"], "did you mean ports?"),
    (["--release", "trixy"], "did you mean trixie?"),
    (["--initiator", "open-scsi"], "did you mean open-iscsi?"),
    (["--topology", "one-swich"], "did you mean one_switch?"),
    (["--scenario", "array-power-cut", "--target", "tgt"], "no cell is left"),
    (["--shard", "0/3"], "--shard 0/3"),
    (["--shard", "4/3"], "--shard 4/3"),
    (["--smoke", "--shard", "5/5"], "no cell is left for it"),
    (["--repeat", "0"], "--repeat 0"),
    (["--jobs", "none"], "--jobs none"),
    (["--resume", "nowhere"], "no folder of a suite"),
    (["--resume", "nowhere", "--smoke"], "leave out filters"),
]


@pytest.mark.parametrize(("argv", "said"), BAD, ids=lambda value: str(value)[:40])
def test_what_is_refused_at_once(capsys, monkeypatch, tmp_path, argv, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lab", "suite", "run", *argv])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_shards_have_each_cell_once_and_take_about_as_long():
    cells = turns([replace(CELL, scenario=f"s{n}") for n in range(9)], 2)
    seconds = {cell.kind: 1.0 + n for n, cell in enumerate(cells[:9])}
    parts = [share(cells, seconds, n, 3) for n in (1, 2, 3)]
    assert sorted(c.id for part in parts for c in part) == sorted(c.id for c in cells)
    loads = [sum(seconds[c.kind] for c in part) for part in parts]
    assert max(loads) - min(loads) <= max(seconds.values())
    assert parse_shard("2/3") == (2, 3)


def test_what_has_not_passed_is_open_and_a_later_pass_is_flaky(suite):
    suite.add(record(CELL, "fail"))
    suite.add(record(OTHER, "pass"))
    assert records.read(suite.folder).open() == [CELL]
    assert records.exit_code(suite.outcomes()) == 1
    suite.add(record(CELL, "pass"))
    assert [one.verdict for one in suite.outcomes()] == ["flaky", "pass"]
    assert records.exit_code(suite.outcomes()) == 1
    assert records.exit_code(suite.outcomes(), allow_flaky=True) == 0
    assert suite.open() == []


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        (["pass", "pass"], 0), (["unknown", "fail"], 1), (["missing", "bad-input"], 2),
        (["unknown", "missing"], 3), (["pass", "unknown"], 4), (["pass"], 4),
    ],
)  # fmt: skip
def test_exit_codes(suite, verdicts, code):
    for cell, verdict in zip((CELL, OTHER), verdicts, strict=False):
        suite.add(record(cell, verdict))
    assert records.exit_code(suite.outcomes()) == code


def ended(suite) -> int:
    """The exit code of a suite whose cells pytest has run."""
    return by_pytest.run(
        suite, 1, fail_fast=False, retry=0, keep_mib=1, ktap=False, allow_flaky=True
    )


@pytest.mark.parametrize(
    ("verdicts", "status", "code"),
    [
        (("pass", "pass"), 0, 0), (("pass", "pass"), 1, None), (("pass", "fail"), 1, 1),
        (("pass", "pass"), 5, None), (("flaky", "pass"), 1, 0), (("pass", ""), 0, 4),
    ],
)  # fmt: skip
def test_an_error_of_pytest_beside_cells_that_all_passed_is_no_pass(
    monkeypatch, suite, verdicts, status, code
):
    for cell, verdict in zip((CELL, OTHER), verdicts, strict=True):
        for one in {"flaky": ("fail", "pass"), "": ()}.get(verdict, (verdict,)):
            suite.add(record(cell, one))
    monkeypatch.setattr("pytest.main", lambda argv: status)
    if code is None:
        with pytest.raises(LabError, match=f"pytest ended with status {status}"):
            ended(suite)
    else:
        assert ended(suite) == code


def test_what_lacked_before_is_not_flaky(suite):
    suite.add(record(CELL, "missing"))
    suite.add(record(CELL, "pass"))
    assert suite.outcomes()[0].verdict == "pass"


@pytest.mark.parametrize("content", ["[]", "{", '{"cells": [{"x": 1}], "absent": [], "seed": 1}'])
def test_a_suite_json_that_is_none(tmp_path, content):
    (tmp_path / "suite.json").write_text(content)
    with pytest.raises(BadInput, match="not that of a suite"):
        records.read(tmp_path)


def test_the_oldest_captures_go_first_until_it_is_small_enough(suite):
    for started, cell in ((2.0, CELL), (1.0, OTHER)):
        suite.add(record(cell, "fail", started=started))
        run = suite.folder / "cells" / cell.id
        (run / "pcap").mkdir(parents=True)
        (run / "pcap" / "h1.pcap").write_bytes(bytes(1 << 20))
        (run / "result.json").write_text("{}")
    assert records.bound(suite, 3 << 19) == [f"cells/{OTHER.id}"]
    assert (suite.folder / "cells" / CELL.id / "pcap").exists()
    assert (suite.folder / "cells" / OTHER.id / "result.json").exists()


def test_reports_keep_unknown_apart_from_fail(suite):
    suite.add(record(CELL, "unknown"))
    suite.add(record(OTHER, "fail", stall_ms={"h1": 12.0}))
    reports.write(suite, ktap=True)
    summary = (suite.folder / "summary.md").read_text()
    assert f"### fail\n\n* `{OTHER.id}`: because fail" in summary
    assert f"### unknown\n\n* `{CELL.id}`: because unknown" in summary
    lines = (suite.folder / "suite.ktap").read_text().splitlines()
    assert lines[:2] == ["KTAP version 1", "1..3"]
    assert f"not ok 1 {CELL.id} # unknown" in lines
    assert f"not ok 2 {OTHER.id}" in lines
    assert lines[-1].endswith("# SKIP it cannot do this")
    assert f'href="cells/{OTHER.id}/report.html"' in (suite.folder / "index.html").read_text()
    assert records.read(suite.folder).cells == (CELL, OTHER)


@pytest.mark.parametrize(
    ("cores", "free", "pressure", "jobs"),
    [(2, 20_000, 0.0, 2), (8, 2100, 0.0, 3), (8, 99_000, 90.0, 4), (1, 100, 99.0, 1)],
)
def test_how_many_labs_side_by_side(cores, free, pressure, jobs):
    assert running.jobs_for(cores, free, pressure) == jobs


def test_how_a_command_ended_is_judged():
    assert running.judged(2, "", "x\nlab: no\n") == {"verdict": "bad-input", "why": "no"}
    assert running.judged(3, "", "lab: lacks")["verdict"] == "missing"
    assert running.judged(-9, "", "")["verdict"] == "unknown"
    checks = [{"name": "stall_below(h1, 1000)", "verdict": "fail", "evidence": "too long"}]
    assert running.broken(checks) == "stall_below(h1, 1000) fail: too long"
    assert running.slack(checks, {"h1": 400.0}) == 600.0
    assert running.alone("k", {"k": {"slack_ms": 280.0}})
    assert not running.alone("k", {})


PASSED = json.dumps([{"verdict": "pass", "checks": [], "measures": {}}])


@pytest.mark.parametrize("status", [1, 4, 70, 130, -9])
def test_a_pass_that_was_printed_by_a_command_that_then_failed_is_none(status):
    assert running.judged(0, PASSED, "")["verdict"] == "pass"
    ended = running.judged(status, PASSED, "lab: its clean-up failed\n")
    assert (ended["verdict"], "clean-up failed" in ended["why"]) == ("unknown", True)


def test_nothing_that_ran_and_a_verdict_that_nobody_knows_are_no_pass(suite):
    assert records.exit_code([]) == 4
    suite.add(record(CELL, "lost"))
    suite.add(record(OTHER, "pass"))
    assert records.exit_code(suite.outcomes()) == 4


def test_two_own_scenarios_of_one_name_do_not_share_a_record(tmp_path):
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(
            "from lab.run.scenario import scenario\n"
            "@scenario()\n"
            "def slow(lab):\n"
            '    """Nothing."""\n'
            "    return []\n"
        )
    paths = tuple(f"{tmp_path / folder}/mine.py:slow" for folder in ("one", "other"))
    with pytest.raises(BadInput, match=r"one/mine\.py:slow .*other/mine\.py:slow .*one name"):
        choose(Selection(paths))


def test_what_is_learned_of_a_suite(suite):
    suite.add(record(CELL, "pass", slack_ms=980.4))
    suite.add(record(OTHER, "fail"))
    assert records.learn(suite) == {CELL.kind: {"seconds": 2.0, "slack_ms": 980}}


def test_history(suite, capsys, monkeypatch):
    for started, ms in ((2.0, 80.0), (1.0, 10.0)):
        suite.add(record(CELL, "pass", started=started, stall_ms={"h1": ms, "h2": 1.0}))
    suite.add(record(OTHER, "pass"))
    monkeypatch.setattr("sys.argv", ["lab", "suite", "history", str(suite.folder), "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out) == {CELL.kind: [10.0, 80.0]}
    assert columns([10.0, 80.0]) == "▂█"
