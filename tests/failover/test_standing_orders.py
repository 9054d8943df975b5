"""What was ordered holds until another order takes it back: whatever dies meanwhile."""

from __future__ import annotations

import json

import pytest

ORDERED = '''
from lab.array.policy import Policy
from lab.checks import no_io_errors, no_lost_writes, one_owner_of_virtual_address, reached
from lab.faults.network import array_powered_off, controller_killed
from lab.run.scenario import scenario
from lab.waiting import wait_for

QUICK = Policy(redirect="fixed", fixed={"h1": "p1"}, hold_s=0.3)

def where(lab):
    return [lab.array.port_of(a) for a in (lab.array.virtual, lab.array.address_of("p3"))]

def said(lab):
    return [e["what"] for e in lab.timeline.events("controller")]

def wait_until_at(lab, *ports):
    wait_for("the addresses to move", lambda: where(lab), until=[*ports].__eq__, seconds=10.0)

def hold(lab, strike):
    h1, array = lab.host("h1"), lab.array
    h1.login()
    array.tell(command="drain", port="p3")
    array.tell(command="move-vip", port="p2")
    wait_until_at(lab, "p2", "p1")
    for _ in range(2):
        known = said(lab).count("settled")
        strike(lab)
        wait_for("it to settle", lambda: said(lab).count("settled") > known, seconds=10.0)
        # For long enough that a port which the controller took for new is trusted again.
        lab.settle()
        lab.timeline.add("test", "where", ports=where(lab))
    array.tell(command="undrain", port="p3")
    array.tell(command="move-vip")
    wait_until_at(lab, "p1", "p3")
    lab.end(lab.begin(controller_killed(lab)))
    wait_for("it to settle", lambda: said(lab)[-1] == "settled", seconds=10.0)
    lab.settle()
    lab.timeline.add("test", "where", ports=where(lab))
    h1.write_and_verify(100)
    return [no_io_errors("h1"), no_lost_writes("h1"), one_owner_of_virtual_address(), reached()]

@scenario(policy=QUICK)
def controller_dies(lab):
    """The controller is killed twice."""
    return hold(lab, lambda lab: lab.end(lab.begin(controller_killed(lab))))

@scenario(policy=QUICK, needs=("power-cut",))
def array_dies(lab):
    """The array loses its power twice."""
    return hold(lab, lambda lab: lab.end(lab.begin(array_powered_off(lab))))
'''


@pytest.mark.parametrize(
    ("name", "target"),
    [("controller_dies", "tgt"), ("controller_dies", "lio"), ("array_dies", "lio")],
)
def test_orders_outlast(run_scenario, tmp_path, name, target):
    path = tmp_path / "ordered.py"
    path.write_text(ORDERED)
    result = run_scenario(f"{path}:{name}", "--target", target)
    lines = (tmp_path / "run-1" / "timeline.jsonl").read_text().splitlines()
    found = [e["ports"] for e in map(json.loads, lines) if e["kind"] == "where"]
    assert found == [["p2", "p1"], ["p2", "p1"], ["p1", "p3"]]
    assert result["verdict"] == "pass", result["checks"]
