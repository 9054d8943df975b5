"""A package outside the checkout brings an engine, a topology, a fault, a check and a scenario."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "outside"


@pytest.fixture(scope="module")
def outside(tmp_path_factory) -> Path:
    """The example as a user has it: a copy of its own, installed where only PYTHONPATH finds it."""
    folder = tmp_path_factory.mktemp("outside")
    leave = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    shutil.copytree(EXAMPLE, folder / "source", ignore=leave)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    pip += ["--no-build-isolation", "--target", str(folder / "installed"), str(folder / "source")]
    subprocess.run(pip, check=True, timeout=100)
    return folder


@pytest.fixture
def path(outside) -> dict[str, str]:
    return {"PYTHONPATH": str(outside / "installed")}


def found(lab_command, path) -> dict[str, dict]:
    """What `lab doctor` says of each target and initiator."""
    findings = json.loads(lab_command("doctor", "--json", env=path).out)
    return {one["what"].split(",")[0]: one for one in findings}


def test_its_engine_is_found(lab_command, path):
    assert found(lab_command, path)["tgt-solicited"]["ok"]
    assert "tgt-solicited" not in found(lab_command, {})
    refused = lab_command("run", "port-loss", "--target", "none", env=path)
    assert "there are tgt, lio, tgt-solicited" in refused.err


def passes(result):
    assert result["verdict"] == "pass", result["checks"]
    assert result["target"] == "tgt-solicited"
    assert [c["name"] for c in result["checks"] if c["name"].startswith("wrote_after")]


def test_its_scenario_and_topology_have_names(lab_command, run_scenario, path):
    assert "loose-cable" in lab_command("list", env=path).out
    result = run_scenario("loose-cable", "--target", "tgt-solicited", env=path)
    passes(result)
    assert result["topology"] == "two_ports"


def test_its_own_tests_pass(outside, path):
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(
        argv, cwd=outside / "source", env={**os.environ, **path}, capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout or os.geteuid()


def test_one_that_cannot_be_imported_disturbs_nobody_else(outside, lab_command, tmp_path):
    shutil.copytree(outside / "installed", tmp_path / "installed")
    engine = tmp_path / "installed" / "failover_lab_example" / "engine.py"
    engine.write_text("import no_such_library\n")
    broken = {"PYTHONPATH": str(tmp_path / "installed")}
    assert lab_command("list", env=broken).status == 0
    told = found(lab_command, broken)["tgt-solicited"]
    assert not told["ok"]
    assert "No module named 'no_such_library'" in told["remedy"]
    asked = ["run", "port-redirection", "--out", tmp_path / "run", "--target"]
    refused = lab_command(*asked, "tgt-solicited", env=broken)
    assert refused.status == 2
    assert "target 'tgt-solicited': failover_lab_example.engine:KIND of failover-lab-example" in (
        refused.err
    )
    assert not (tmp_path / "run").exists()
    assert lab_command(*asked, "tgt", env=broken).status == 0
