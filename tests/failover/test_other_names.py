"""Scenarios of the catalogue on a topology of one's own, whose hosts and ports have other names."""

import json
from pathlib import Path

import pytest

TOPOLOGY = Path(__file__).with_name("other_names.py")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("port-takeover", ()),
        ("virtual-port-reassignment", ()),
        ("mixed-serving", ()),
        ("chap-wrong-secret", ()),
        ("silent-port", ("--target", "lio")),
        ("reconnect-request", ()),
        ("failback", ()),
    ],
)
def test_the_catalogue_runs_under_other_names(run_scenario, name, options):
    result = run_scenario(name, "--topology", str(TOPOLOGY), *options)
    wrong = [c for c in result["checks"] if c["verdict"] != "pass"]
    assert result["verdict"] == "pass", json.dumps(wrong, indent=1)
    assert "esx1" in result["served"]


def test_what_it_lacks_is_said(lab_command, tmp_path):
    ran = lab_command("run", "load-spread", "--topology", TOPOLOGY, "--out", tmp_path / "o")
    assert ran.status == 2
    assert "load-spread needs 4 hosts; the topology has 2: esx1, esx2" in ran.err
    assert not (tmp_path / "o").exists()


def test_the_scenario_of_the_readme(run_scenario, tmp_path):
    text = (Path(__file__).parents[2] / "README.md").read_text()
    (tmp_path / "host_cable.py").write_text(text.split("```python\n")[1].split("```")[0])
    result = run_scenario(str(tmp_path / "host_cable.py"))
    assert result["verdict"] == "pass", result["checks"]
