"""A run's frame: exit codes, the run folder, what becomes of a scenario that breaks."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any

import pytest

from lab import checks
from lab.errors import BadInput, CommandFailed, LabError, Missing, WaitTimeout
from lab.run import run as runs
from lab.run.scenario import Scenario
from lab.timeline import Timeline


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        (["pass"], 0), (["pass", "pass"], 0), (["fail"], 1), (["pass", "fail", "unknown"], 1),
        (["unknown"], 4), (["pass", "unknown"], 4), ([], 4),
    ],
)  # fmt: skip
def test_exit_code(verdicts, status):
    assert runs.exit_code(verdicts) == status


def test_a_run_folder_is_made_with_its_parents(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = runs.make_folder(runs.Path("a/b"), 1)
    assert folder.path == tmp_path / "a" / "b"
    assert [p.name for p in folder.path.iterdir()] == [".work"]
    assert folder.work.is_dir()


def test_a_folder_that_is_there_must_be_empty(tmp_path):
    assert runs.make_folder(tmp_path, 1).path == tmp_path
    with pytest.raises(BadInput, match="not empty"):
        runs.make_folder(tmp_path, 1)


@pytest.mark.parametrize("place", ["file", "file/x"])
def test_a_folder_that_cannot_be_made(tmp_path, place):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(BadInput, match=f"{place}: the run folder cannot be made: "):
        runs.make_folder(tmp_path / place, 1)
    assert (tmp_path / "file").read_text() == "precious"


def test_too_little_room(tmp_path):
    with pytest.raises(Missing, match=r"MiB free, a run needs \d+ MiB.*another --out"):
        runs.make_folder(tmp_path / "new", 1 << 60)
    runs.make_folder(tmp_path / "new", 1)  # nothing is in the way afterwards


def acting(error: BaseException | None, found=()) -> tuple[list, list, Timeline]:
    def act(_lab):
        if error:
            raise error
        return found

    timeline, trouble = Timeline(), []
    must = runs._act(Scenario("x", act), None, timeline, trouble)  # type: ignore[arg-type]
    return must, trouble, timeline


def verdict_of(must, trouble, timeline: Timeline) -> str:
    return str(checks.overall([*trouble, *checks.judge(timeline, must)]))


def test_what_a_scenario_returns_must_hold():
    wanted = [checks.reached(), checks.kernel_quiet()]
    must, trouble, timeline = acting(None, iter(wanted))
    assert (must, trouble, timeline.events()) == (wanted, [], [])


def test_no_checks_are_no_pass():
    assert verdict_of(*acting(None)) == "unknown"


def test_a_state_that_did_not_come_about_fails_it():
    must, trouble, timeline = acting(WaitTimeout("a login", 5, {"state": "FAILED"}))
    (event,) = timeline.events("wait-timeout")
    assert (event["what"], event["last"]) == ("a login", "{'state': 'FAILED'}")
    json.dumps(event)
    assert verdict_of(must, trouble, timeline) == "fail"


@pytest.mark.parametrize("error", [LabError("h1 is gone"), CommandFailed("h1", ["x"], 1, "gone")])
def test_trouble_of_the_lab_is_no_verdict(error):
    must, trouble, timeline = acting(error)
    (finding,) = trouble
    assert (finding.name, str(finding.verdict)) == ("completed", "unknown")
    assert str(error) in finding.evidence
    timeline.add("lab", "config")
    assert verdict_of(must, trouble, timeline) == "unknown"


def test_a_bug_of_a_scenario_is_told_with_its_place():
    must, trouble, timeline = acting(KeyError("p9"))
    (finding,) = trouble
    assert "test_run.py:" in finding.evidence
    assert "KeyError: 'p9'" in finding.evidence
    timeline.add("lab", "config")
    assert verdict_of(must, trouble, timeline) == "unknown"


def test_an_interrupt_goes_through():
    with pytest.raises(KeyboardInterrupt):
        acting(KeyboardInterrupt())


def test_served_names_the_port_that_had_the_address_then():
    timeline = Timeline()
    for t, port, op in [(1, "p2", "add"), (5, "p2", "del"), (6, "p1", "add")]:
        timeline.add(port, "address", t=float(t), address="10.0.0.12", op=op, source="kernel")
    for t, moment in [(2, "before"), (5.5, "between"), (7, "after")]:
        timeline.add("h1", "session", t=float(t), current="10.0.0.12:3260", moment=moment)
    timeline.add("h2", "session", t=8.0, current="", moment="after")
    assert runs.served(timeline) == {
        "h1": {
            "before": "p2 (10.0.0.12)",
            "between": "no port (10.0.0.12)",
            "after": "p1 (10.0.0.12)",
        },
        "h2": {"after": "no port ()"},
    }


def test_a_result_is_written_in_one_step(tmp_path, monkeypatch):
    runs.write_result(tmp_path, {"verdict": "pass"})

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(runs.Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        runs.write_result(tmp_path, {"verdict": "fail"})
    assert json.loads((tmp_path / "result.json").read_text()) == {"verdict": "pass"}


@pytest.mark.parametrize(("status", "error"), [(130, KeyboardInterrupt), (3, Missing),
                                               (70, LabError), (137, LabError)])  # fmt: skip
def test_how_a_sandbox_ended(tmp_path, monkeypatch, status, error):
    plan: Any = SimpleNamespace(scenario=Scenario("x", list), folder=runs.Folder(tmp_path))
    monkeypatch.setattr(runs.sandbox, "run", lambda _work: status)
    with pytest.raises(error):
        runs.run(plan)


@pytest.mark.parametrize("returned", [None, "text", [1], 7])
def test_a_scenario_that_returns_no_checks(returned):
    with pytest.raises(
        BadInput, match=r"test_run\.py:\d+: scenario x must return a list of checks"
    ):
        acting(None, returned)


@pytest.mark.parametrize("path", ["x" * 256, "/".join(["y" * 200] * 20)])
def test_a_folder_whose_name_is_too_long(tmp_path, path):
    with pytest.raises(BadInput, match="cannot be made: File name too long"):
        runs.make_folder(tmp_path / path, 1)
    assert not [*tmp_path.iterdir()]
