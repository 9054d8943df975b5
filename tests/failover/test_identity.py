"""Who a disk is, and who reserved it, over every kind of move; several targets; two families."""

import json
from pathlib import Path

import pytest

from lab.timeline import Timeline


def timeline(result) -> Timeline:
    return Timeline.read(Path(result["folder"]) / "timeline.jsonl")


def why(result) -> str:
    return json.dumps([c for c in result["checks"] if c["verdict"] != "pass"], indent=1)


def failed(result) -> list[str]:
    return [c["name"] for c in result["checks"] if c["verdict"] == "fail"]


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("reservation-kept", "tgt"),
        ("reservation-kept", "lio"),
        ("reservation-kept-by-relogin", "lio"),
        ("reservation-kept-by-power-cut", "lio"),
    ],
)
def test_a_reservation_is_kept(run_scenario, name, target):
    result = run_scenario(name, "--target", target)
    assert result["verdict"] == "pass", why(result)
    seen = timeline(result).events("reservation")
    assert {e["where"] for e in seen} == {"h1", "h2"}
    assert {(e["holder"], *e["keys"]) for e in seen} == {("0x00000000000000a1",) * 2}
    assert {e["status"] for e in timeline(result).events("attempt", "h2")} == {"conflict"}


@pytest.mark.parametrize(
    ("control", "checks"),
    [
        ("control-reservation-forgotten", {"reservation_unchanged(h1)", "writes_refused(h2)"}),
        ("control-reservation-orphaned", {"writes_allowed(h1)", "no_io_errors(h1)"}),
        ("control-identity-changed", {"same_identity(h1)"}),
    ],
)
def test_an_array_that_forgets_fails(run_scenario, control, checks):
    result = run_scenario(control)
    assert result["verdict"] == "fail"
    assert checks <= set(failed(result)), failed(result)


@pytest.mark.parametrize("target", ["tgt", "lio"])
@pytest.mark.parametrize("name", ["many-luns", "size-after-relogin"])
def test_several_targets_and_luns(run_scenario, name, target):
    result = run_scenario(name, "--target", target)
    assert result["verdict"] == "pass", why(result)
    after = [e for e in timeline(result).events("session", "h1") if e["moment"] == "after"]
    assert [[d["lun"] for d in e["disks"]] for e in after] == [[1, 2, 3], [1, 7, 200]]
    sizes = {e["serial"].strip(" \0")[-6:]: e["size_bytes"] >> 20 for e in after}
    assert sizes == {"a1lun1": 16, "b1lun1": 40}
    loads = {name for name in result["measures"]["stall_ms"] if name.startswith("h1.")}
    assert len(loads) == 4


@pytest.mark.parametrize(
    ("name", "target"),
    [("mixed-families", "tgt"), ("mixed-families", "lio"), ("redirect-across-families", "tgt")],
)
def test_both_families(run_scenario, name, target):
    result = run_scenario(name, "--target", target)
    assert result["verdict"] == "pass", why(result)
    ends = {host: places["after"] for host, places in result["served"].items()}
    if name == "mixed-families":
        assert ends == {"h1": "p2 (10.0.0.11)", "h2": "p2 (fd00::11)"}
    else:
        assert ends == {"h3": "p3 (fd00::12)"}
