"""`lab selftest`: labs that are really broken, and the checks that find it."""

import json
from pathlib import Path

import pytest

from lab.suite.selftest import broken_labs

BUSY = "The machine was too busy"
QUICK = [one.name for one, control in broken_labs() if control.quick]


@pytest.mark.timeout(600)
def test_the_checks_find_what_is_broken(lab_command, tmp_path):
    ran = lab_command("selftest", "--quick", "--json", "--out", tmp_path / "st", seconds=590.0)
    assert [row["control"] for row in ran.results] == QUICK, ran.err
    caught = [row for row in ran.results if row["result"] == "caught"]
    for row in caught:
        result = json.loads((Path(row["folder"]) / "result.json").read_text())
        assert result["verdict"] == row["must_be"]
    # A busy machine takes a fail that may come from being late for no evidence; nothing else may.
    others = [row for row in ran.results if row not in caught]
    assert [row["result"] for row in others if BUSY in row["why"]] == ["not judged"] * len(
        others
    ), json.dumps(others, indent=1)
    assert ran.status == (4 if others else 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--check", "moved_too"), "moved_to"),
        (("--target", "tgtt"), "tgt"),
        (("--check", "fenced_before_moved", "--target", "tgt"), "no broken lab fits"),
        (("--release", "potato"), "bookworm"),
    ],
)
def test_bad_input_is_refused_before_any_lab(lab_command, tmp_path, arguments, said):
    ran = lab_command("selftest", *arguments, "--out", tmp_path / "st")
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err
    assert not (tmp_path / "st").exists()


def test_a_folder_in_use_is_refused(lab_command, tmp_path):
    (tmp_path / "mine").write_text("")
    ran = lab_command("selftest", "--quick", "--out", tmp_path)
    assert (ran.status, ran.out) == (2, "")
    assert "not empty" in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
