"""Dual-head arrays on real labs: a head loses its power, and the host is served by the other."""

import json
from pathlib import Path

from lab.timeline import Timeline


def why(result) -> str:
    return json.dumps([c for c in result["checks"] if c["verdict"] != "pass"], indent=1)


def test_head_power_cut(run_scenario):
    result = run_scenario("head-power-cut")
    assert result["verdict"] == "pass", why(result)
    assert result["measures"]["lost_writes"] == 0
    timeline = Timeline.read(Path(result["folder"]) / "timeline.jsonl")
    sessions = {e["moment"]: e for e in timeline.events("session", "h1")}
    assert sessions["before"]["sid"] == sessions["after"]["sid"]
    assert sessions["before"]["serial"] == sessions["after"]["serial"]
    assert sessions["before"]["connection"] != sessions["after"]["connection"]
    # The host was told: it did not have to wait for a NOP-Out, 5 s, to find out.
    (began,) = (e["t"] for e in timeline.events("fault") if e["phase"] == "begin")
    resets = [e["t"] for e in timeline.events("hung-up", "h1") if e["how"] == "reset"]
    assert any(0 < t - began < 2.0 for t in resets)


def test_head_that_is_not_heard_is_cut_off(run_scenario):
    result = run_scenario("head-unheard")
    assert result["verdict"] == "pass", why(result)


def test_head_whose_port_dies_gives_its_addresses_up(run_scenario):
    result = run_scenario("head-port-lost")
    assert result["verdict"] == "pass", why(result)
    timeline = Timeline.read(Path(result["folder"]) / "timeline.jsonl")
    assert "head-dark" in {e["what"] for e in timeline.events("controller")}
    assert not timeline.events("power")  # it was asked, not cut off


def test_a_new_controller_takes_a_dark_head_for_lost(run_scenario):
    result = run_scenario("head-and-controller-lost")
    assert result["verdict"] == "pass", why(result)
    told = [e["what"] for e in Timeline.read(Path(result["folder"]) / "timeline.jsonl")
            .events("controller")]  # fmt: skip
    assert told.count("started") == 2


def test_head_that_cannot_be_fenced_gives_its_addresses_up(run_scenario):
    result = run_scenario("head-cut-off")
    assert result["verdict"] == "pass", why(result)
    timeline = Timeline.read(Path(result["folder"]) / "timeline.jsonl")
    assert not timeline.events("power")  # the switch did not hear
    told = {e["what"]: e["t"] for e in reversed(timeline.events("controller"))}  # the first of each
    taken = max(e["t"] for e in timeline.events("address", "a1b") if e["op"] == "add")
    assert told["fence"] < told["lease-out"] < taken


def test_without_a_lease_two_heads_have_the_addresses(run_scenario):
    result = run_scenario("control-no-lease")
    assert result["verdict"] == "fail"
    failed = {c["name"].split("(")[0] for c in result["checks"] if c["verdict"] == "fail"}
    assert failed == {"one_owner_of_virtual_address"}


def test_without_fencing_two_heads_have_the_addresses(run_scenario):
    result = run_scenario("control-no-fencing")
    assert result["verdict"] == "fail"
    failed = {c["name"].split("(")[0] for c in result["checks"] if c["verdict"] == "fail"}
    assert {"one_owner_of_virtual_address", "fenced_before_moved"} <= failed


def test_a_fence_ends_the_kernel_and_not_only_its_cables(run_scenario):
    result = run_scenario(str(Path(__file__).with_name("fenced_kernel.py")))
    assert result["verdict"] == "pass", why(result)
