"""The catalogue's first table, on a real lab each; what must hold is read from the result."""

import json
from pathlib import Path

import pytest

from lab.timeline import Timeline


def timeline(result) -> Timeline:
    return Timeline.read(Path(result["folder"]) / "timeline.jsonl")


def why(result) -> str:
    return json.dumps([c for c in result["checks"] if c["verdict"] != "pass"], indent=1)


def test_hidden_ports(run_scenario):
    result = run_scenario("hidden-ports")
    assert result["verdict"] == "pass", why(result)
    (asked,) = timeline(result).events("discovery")
    assert asked["portals"] == ["10.0.0.1:3260"]


def test_port_redirection(run_scenario):
    result = run_scenario("port-redirection")
    assert result["verdict"] == "pass", why(result)
    first = timeline(result).events("login", "h1")[0]
    assert first["portal"] == "10.0.0.1:3260"
    assert first["status"] == "0x0101"
    assert first["target_address"].split(":")[0] in {"10.0.0.11", "10.0.0.12", "10.0.0.13"}
    assert result["measures"]["acked_writes"] > 0


def test_port_loss(run_scenario):
    result = run_scenario("port-loss")
    assert result["verdict"] == "pass", why(result)
    assert result["measures"]["lost_writes"] == 0
    assert result["measures"]["io_errors"] == 0
    before, after = (result["served"]["h1"][moment] for moment in ("before", "after"))
    assert before.split()[0] != after.split()[0]
    answered = [e["status"] for e in timeline(result).events("login", "h1")]
    assert answered.count("0x0101") == 2  # once to begin with, once after the loss


def test_port_takeover(run_scenario):
    result = run_scenario("port-takeover")
    assert result["verdict"] == "pass", why(result)
    sessions = {e["moment"]: e for e in timeline(result).events("session", "h1")}
    assert sessions["before"]["connection"] == sessions["after"]["connection"] != ""
    assert result["served"]["h1"]["before"] != result["served"]["h1"]["after"]


@pytest.mark.parametrize("name", ["", "-serving"])
def test_virtual_port_reassignment(run_scenario, name):
    result = run_scenario(f"virtual-port-reassignment{name}")
    assert result["verdict"] == "pass", why(result)
    at_end: dict[str, set[str]] = {}
    for event in timeline(result).events("address"):
        ports = at_end.setdefault(event["address"], set())
        (ports.add if event["op"] == "add" else ports.discard)(event["where"])
    assert at_end["10.0.0.1"] == at_end["10.0.0.11"] == {"p2"}
    logins = timeline(result).events("login", "h2")
    assert logins[0]["portal"] == "10.0.0.1:3260"


def test_an_array_without_a_controller_fails(run_scenario):
    result = run_scenario("control-no-controller")  # `lab selftest --quick` runs others
    assert result["verdict"] == "fail"
    failed = [c["name"] for c in result["checks"] if c["verdict"] == "fail"]
    assert [name for name in failed if name.startswith("stall_below")], failed


def test_a_run_folder_is_whole(run_scenario):
    result = run_scenario("hidden-ports")
    folder = Path(result["folder"])
    assert {p.name for p in folder.iterdir()} >= {
        "result.json", "timeline.jsonl", "report.html", "pcap", "logs", "luns"
    }  # fmt: skip
    assert not (folder / ".work").exists()
    assert {"kernel", "open-iscsi", "target"} <= result["versions"].keys()
    assert list((folder / "pcap").glob("h1.pcap*"))
    assert (folder / "logs" / "h1-console.log").read_text().count("Run /lab-init") == 1
