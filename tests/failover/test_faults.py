"""Faults that are not a clean cable pull, on a real lab each; what must hold is in the result."""

import json
from pathlib import Path

import pytest

from lab.checks.moves import stays
from lab.timeline import Timeline

VIRTUAL = "10.0.0.1"


def timeline(result) -> Timeline:
    return Timeline.read(Path(result["folder"]) / "timeline.jsonl")


def passes(result) -> Timeline:
    wrong = [c for c in result["checks"] if c["verdict"] != "pass"]
    assert result["verdict"] == "pass", json.dumps(wrong, indent=1)
    assert result["measures"]["lost_writes"] == 0
    return timeline(result)


def ports_of(found, address=VIRTUAL):
    """The ports that had `address`, one after the other."""
    return [next(iter(state.ports)) for state in stays(found, address)]


def failed(result):
    assert result["verdict"] == "fail"
    return {c["name"].split("(")[0] for c in result["checks"] if c["verdict"] == "fail"}


@pytest.mark.parametrize(
    ("name", "target"),
    [("silent-port", "tgt"), ("silent-port", "lio"), ("mute-port", "tgt"), ("deaf-port", "tgt")],
)
def test_a_silent_port_is_noticed_with_its_carrier_up(run_scenario, name, target):
    found = passes(run_scenario(name, "--target", target))
    assert ports_of(found) == ["p1", "p2"]
    (down,) = (e for e in found.events("controller") if e["what"] == "port-down")
    assert (down["port"], down["cause"]) == ("p1", "probe")


def test_without_probes_nobody_notices(run_scenario):
    assert failed(run_scenario("control-no-probes")) >= {"moved_to", "stall_below"}


def test_second_failure(run_scenario):
    assert ports_of(passes(run_scenario("second-failure"))) == ["p1", "p2", "p3"]


def test_flapping_port(run_scenario):
    found = passes(run_scenario("flapping-port"))
    assert ports_of(found) == ["p1", "p2", "p1"]  # home once, when the port has stayed up
    assert sum(e["phase"] == "end" for e in found.events("fault", "p1")) >= 4


def test_without_hold_time_addresses_flap(run_scenario):
    result = run_scenario("control-no-hold")
    assert failed(result) == {"moved_times"}
    assert ports_of(timeline(result)) == ["p1", *["p2", "p1"] * 4]


@pytest.mark.parametrize("target", ["tgt", "lio"])
def test_failback(run_scenario, target):
    assert ports_of(passes(run_scenario("failback", "--target", target))) == ["p1", "p2", "p1"]


def test_lost_announcement(run_scenario):
    found = passes(run_scenario("lost-announcement"))
    began, ended = (e["t"] for e in found.events("fault", "h1"))
    moved = stays(found, VIRTUAL)[-1].t
    assert began < moved < ended
    told = [e["t"] for e in found.events("announcement", "h1") if e["address"] == VIRTUAL]
    assert not [t for t in told if moved < t < ended]
    assert [t for t in told if t > ended]


def test_lossy_port(run_scenario):
    assert ports_of(passes(run_scenario("lossy-port"))) == ["p1", "p2"]


def test_all_ports_lost(run_scenario):
    result = run_scenario("all-ports-lost")
    found = passes(result)
    assert result["measures"]["io_errors"] == 0
    assert result["measures"]["stall_ms"]["h1"] > 5000
    assert "no-port-left" in {e["what"] for e in found.events("controller")}


def test_all_ports_lost_for_long(run_scenario):
    result = run_scenario("all-ports-lost-for-long")
    passes(result)
    assert result["measures"]["io_errors"] > 0


def test_controller_killed(run_scenario):
    found = passes(run_scenario("controller-killed"))
    moves = ports_of(found)
    assert set(moves) == {"p1", "p2"}
    assert len(moves) > 10


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("virtual-port-killed", "tgt"),
        ("virtual-port-killed", "lio"),
        ("virtual-port-killed-steered", "tgt"),
    ],
)
def test_virtual_port_killed(run_scenario, name, target):
    found = passes(run_scenario(name, "--target", target))
    said = [e for e in found.events("virtual-port") if e["what"] in ("died", "restarted")]
    assert [e["what"] for e in said] == ["died", "restarted"]
    assert min(e["t"] for e in found.events("login", "h2")) > said[1]["t"]


def test_target_killed(run_scenario):
    found = passes(run_scenario("target-killed"))
    (killed,) = (e["t"] for e in found.events("fault") if e["phase"] == "begin")
    ends = [e["by"] for e in found.events("hung-up", "h1") if e["t"] > killed]
    assert ends[0] == "array"


def test_lio_cannot_be_killed_alone(lab_command, tmp_path):
    ran = lab_command("run", "target-killed", "--target", "lio", "--out", tmp_path / "run")
    assert ran.status == 2
    assert "tgt" in ran.err


@pytest.mark.parametrize("target", ["tgt", "lio"])
def test_host_power_cut(run_scenario, target):
    found = passes(run_scenario("host-power-cut", "--target", target))
    console = [e for e in found.events("evidence", "h2") if e["source"] == "console"]
    assert [e["phase"] for e in console] == ["begin", "end"] * 2
    (read,) = found.events("verified", "h2")
    assert read["blocks"] > 100


def test_busy_nop(run_scenario):
    found = passes(run_scenario("busy-nop"))
    (heavy,) = found.events("heavy-load", "h1")
    assert heavy["mib"] > 0


def test_a_session_that_is_cut_is_seen(run_scenario):
    assert failed(run_scenario("control-nop-timeout")) == {"stayed_logged_in", "same_connection"}
