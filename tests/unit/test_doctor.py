"""What a machine is told it lacks, and the tables that people see."""

from __future__ import annotations

import io
import subprocess

import pytest
from rich.console import Console

from lab.cli import doctor
from lab.cli.show import print_results, scenarios_table
from lab.errors import Missing
from lab.guest import image as release
from lab.run.progress import Progress
from lab.run.scenario import Scenario


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """PATH has what labs and images need, and nothing else."""
    for name in (*doctor.PROGRAMS, *doctor.IMAGE_PROGRAMS):
        (tmp_path / name).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_all_is_there(programs):
    doctor.require_for_runs()


def test_all_that_is_missing_is_named_at_once(programs):
    (programs / "tgtd").unlink()
    (programs / "mergecap").unlink()
    with pytest.raises(Missing) as error:
        doctor.require_for_runs()
    for part in ("tgtd", "apt-get install tgt", "mergecap", "apt-get install wireshark-common"):
        assert part in str(error.value)
    assert "mnexec" not in str(error.value)
    assert error.value.exit_code == 3


def test_what_builds_images_is_not_needed_to_run(programs):
    (programs / "mmdebstrap").unlink()
    doctor.require_for_runs()


def test_mininet_of_another_python(programs, monkeypatch):
    monkeypatch.setattr("lab.mininet_classes.MISSING", "No module named 'mininet'")
    with pytest.raises(Missing, match="apt-get install mininet"):
        doctor.require_for_runs()


def test_every_finding_has_a_remedy(programs, monkeypatch, tmp_path_factory):
    for name in (*doctor.PROGRAMS, *doctor.IMAGE_PROGRAMS):
        (programs / name).unlink()
    monkeypatch.setenv("LAB_CACHE", str(tmp_path_factory.mktemp("cache")))
    refused = subprocess.CompletedProcess([], 3, "", "lab: not allowed (reason); do this\n")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *_, **__: refused)
    findings = {f.what.split()[0]: f for f in doctor.examine()}
    assert {*doctor.PROGRAMS, "mmdebstrap", "mke2fs", "private", "image"} <= findings.keys()
    assert {"libiscsi,", "arping", "keepalived"} <= findings.keys()
    lacking = {name for name, f in findings.items() if not f.ok}
    assert lacking == findings.keys() - {"mininet", "lio,"}
    assert {name for name, f in findings.items() if not f.needed} == {
        "libiscsi,", "lio,", "arping", "keepalived"
    }  # fmt: skip
    assert all(f.remedy for f in findings.values() if not f.ok)
    assert findings["private"].remedy == "not allowed (reason); do this"
    assert "lab image build" in findings["image"].remedy
    assert findings["tgtd"].as_json() == {
        "what": "tgtd (tgt)", "ok": False, "remedy": "sudo apt-get install tgt", "needed": True
    }  # fmt: skip


def test_an_image_that_is_built_is_found(programs, monkeypatch, tmp_path):
    monkeypatch.setenv("LAB_CACHE", str(tmp_path))
    whole = tmp_path / f"{release.DEFAULT_RELEASE}-{release.digest()}"
    whole.mkdir()
    (whole / "manifest.json").write_text("{}")
    done = subprocess.CompletedProcess([], 0, "", "")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *_, **__: done)
    assert all(f.ok or not f.needed for f in doctor.examine())


def console() -> Console:
    return Console(file=io.StringIO(), width=100)


def test_titles_and_paths_are_shown_as_they_are():
    def act(_lab):
        """A disk [/dev/sda] that [bold] survives."""

    shown = console()
    shown.print(scenarios_table([Scenario("mine", act)]))
    result = {
        "scenario": "mine", "title": "A disk [/dev/sda]", "verdict": "fail",
        "served": {"h1": {"before": "p1 (10.0.0.11)", "after": "no port (10.0.0.11)"}},
        "measures": {"stall_ms": {"h1": 1234.0, "h2": 17.04}}, "folder": "/tmp/[x]/run",
        "checks": [{"name": "reached()", "verdict": "fail", "evidence": "Not [/there]."},
                   {"name": "kernel_quiet()", "verdict": "pass", "evidence": "Quiet."}],
    }  # fmt: skip
    print_results(shown, [result])
    text = shown.file.getvalue()
    for part in (
        "A disk [/dev/sda] that [bold] survives.", "/tmp/[x]/run/report.html", "Not [/there].",
        "h1: p1 → no port", "1.23 s", "17.0 ms",
    ):  # fmt: skip
        assert part in text
    assert "Quiet." not in text


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({}, ""),
        ({"needs": ("power-cut",)}, "lio"),
        ({"not_for": {"libiscsi": "a reason"}}, "open-iscsi"),
        ({"needs": ("power-cut",), "not_for": {"libiscsi": "a reason"}}, "lio, open-iscsi"),
    ],
)
def test_what_a_scenario_is_limited_to(limits, said):
    def act(_lab):
        """Does something."""

    shown = console()
    shown.print(scenarios_table([Scenario("mine", act, **limits)]))
    row = shown.file.getvalue().splitlines()[1]
    assert row.partition("something.")[2].strip() == said


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_progress_takes_any_text(stream):
    with Progress("image of trixie", stream) as progress:
        progress.say("unpacking [/archives]")
    assert "unpacking [/archives]" in stream.getvalue()
    assert stream.getvalue().endswith("\x1b[K" if stream.isatty() else "\n")
