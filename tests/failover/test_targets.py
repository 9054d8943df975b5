"""The catalogue with the other engine, an array's power cut, and who is served where."""

import json
from pathlib import Path

import pytest

from lab.timeline import Timeline


def timeline(result) -> Timeline:
    return Timeline.read(Path(result["folder"]) / "timeline.jsonl")


def why(result) -> str:
    return json.dumps([c for c in result["checks"] if c["verdict"] != "pass"], indent=1)


@pytest.mark.parametrize(
    "name",
    [
        "hidden-ports",
        "port-redirection",
        "port-loss",
        "port-takeover",
        "virtual-port-reassignment",
        "virtual-port-reassignment-serving",
    ],
)
def test_lio_keeps_the_promises(run_scenario, name):
    result = run_scenario(name, "--target", "lio")
    assert result["verdict"] == "pass", why(result)
    assert result["target"] == "lio"
    assert "--target lio" in result["command"]
    assert result["versions"]["target"].startswith("lio ")


@pytest.mark.parametrize("target", ["tgt", "lio"])
@pytest.mark.parametrize("name", ["served-at-virtual-port", "mixed-serving", "load-spread"])
def test_who_is_served_where(run_scenario, name, target):
    result = run_scenario(name, "--target", target)
    assert result["verdict"] == "pass", why(result)
    ends = {host: moments["login"] for host, moments in result["served"].items()}
    at_virtual = {host for host, place in ends.items() if "(10.0.0.1)" in place}
    assert at_virtual == {
        "served-at-virtual-port": {"h1"}, "mixed-serving": {"h2"}, "load-spread": set()
    }[name]  # fmt: skip
    if name == "load-spread":
        assert sorted(place.split()[0] for place in ends.values()) == ["p1", "p1", "p2", "p3"]


@pytest.mark.parametrize("name", ["array-power-cut", "array-power-cut-write-through"])
def test_a_power_cut_of_the_array(run_scenario, name):
    result = run_scenario(name)
    assert result["verdict"] == "pass", why(result)
    assert result["target"] == "lio"
    assert result["measures"]["lost_writes"] == 0
    assert result["measures"]["acked_writes"] > 1500
    console = (Path(result["folder"]) / "logs" / "a1-console.log").read_text()
    assert console.count("Run /lab-init as init process") == 2
    up = [e["op"] for e in timeline(result).events("address") if e["address"] == "10.0.0.1"]
    assert up == ["add", "del", "add"]


def test_a_disk_that_lies_is_caught(run_scenario):
    result = run_scenario("control-lying-disk")
    failed = [c["name"] for c in result["checks"] if c["verdict"] == "fail"]
    assert failed == ["no_lost_writes(h1)"]


@pytest.mark.parametrize("target", ["tgt", "lio"])
def test_probes_raise_no_false_alarm(run_scenario, target):
    result = run_scenario("mixed-serving", "--target", target)
    told = {e["what"] for e in timeline(result).events("controller")}
    assert "settled" in told
    assert not told & {"suspect", "port-down", "holding-off", "moved"}


def test_what_cannot_be_run(lab_command, tmp_path):
    for name, target, said in (
        ("port-takeover", "ietd", "no target 'ietd'; there are tgt, lio"),
        ("array-power-cut", "tgt", "array-power-cut needs --target lio"),
    ):
        ran = lab_command("run", name, "--target", target, "--out", tmp_path / "run")
        assert (ran.status, ran.out) == (2, "")
        assert said in ran.err
        assert not (tmp_path / "run").exists()
