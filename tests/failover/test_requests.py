"""Requests and wrong login answers, on a real lab each; what must hold is read from the result."""

import json
from pathlib import Path

import pytest

from lab.timeline import Timeline

PORTS = {"10.0.0.11", "10.0.0.12", "10.0.0.13"}


def timeline(result) -> Timeline:
    return Timeline.read(Path(result["folder"]) / "timeline.jsonl")


def passes(result) -> Timeline:
    wrong = [c for c in result["checks"] if c["verdict"] != "pass"]
    assert result["verdict"] == "pass", json.dumps(wrong, indent=1)
    assert result["measures"]["io_errors"] == result["measures"]["lost_writes"] == 0
    return timeline(result)


def wire(found, *kinds, host="h1"):
    """What passed `host` on the wire, in order: (kind, address asked, status or event)."""
    events = sorted((e for k in kinds for e in found.events(k, host)), key=lambda e: e["t"])
    assert all(e["source"] == "wire" for e in events)
    about = {"login": "status", "async": "event", "logout": "reason", "hung-up": "by"}
    return [(e["kind"], e["portal"].rpartition(":")[0], e[about[e["kind"]]]) for e in events]


def asked_to_move(found, host="h1"):
    """What `host` was asked and did, and at which port it was before and after."""
    told = wire(found, "async", "logout", "login", host=host)
    (_, old, _), (_, new, _) = told[1], told[-1]
    assert told == [
        ("login", "10.0.0.1", "0x0101"),
        ("login", old, "0x0000"),
        ("async", old, 1),
        ("logout", old, 0),
        ("login", "10.0.0.1", "0x0101"),
        ("login", new, "0x0000"),
    ]
    assert {old, new} <= PORTS
    assert old != new
    return old, new


@pytest.mark.parametrize("target", ["tgt", "lio"])
@pytest.mark.parametrize(("name", "wait_ms"), [("", 2000), ("-at-once", 0)])
def test_reconnect_request(run_scenario, name, wait_ms, target):
    result = run_scenario(f"reconnect-request{name}", "--target", target)
    old, new = asked_to_move(passes(result))
    served = result["served"]["h1"]
    assert served["before"].endswith(f"({old})")
    assert served["after"].endswith(f"({new})")
    assert wait_ms <= result["measures"]["stall_ms"]["h1"] <= wait_ms + 300


def test_an_array_that_does_not_ask_fails(run_scenario):
    result = run_scenario("control-not-asked")
    assert result["verdict"] == "fail"
    failed = {c["name"].split("(")[0] for c in result["checks"] if c["verdict"] == "fail"}
    assert failed == {"asked_then_moved", "served_at"}
    assert not timeline(result).events("async")


def test_request_ignored(run_scenario):
    found = passes(run_scenario("request-ignored"))
    (message,) = found.events("async", "h1")
    told = wire(found, "async", "logout", "login", "hung-up")
    at = told.index(("async", "10.0.0.11", 1))
    assert told[at + 1] == ("hung-up", "10.0.0.11", "array")
    assert told[at + 2] == ("login", "10.0.0.1", "0x0101")
    assert message["parameters"][2] == 5
    dropped = next(e for e in found.events("hung-up", "h1") if e["t"] > message["t"])
    assert 5 <= dropped["t"] - message["t"] < 6


@pytest.mark.parametrize(("name", "event"), [("connection", 2), ("session", 3)])
def test_drop_announced(run_scenario, name, event):
    result = run_scenario(f"drop-announced-{name}")
    told = wire(passes(result), "async", "logout", "login", "hung-up")
    at = told.index(("async", "10.0.0.11", event))
    assert [kind for kind, *_ in told[at + 1 : at + 3]] == ["hung-up", "login"]
    assert "logout" not in {kind for kind, *_ in told}
    # Parameter2 of the message, not DefaultTime2Wait, is what the host waited.
    assert 1000 <= result["measures"]["stall_ms"]["h1"] <= 1300


def test_rebalance(run_scenario):
    result = run_scenario("rebalance")
    found = passes(result)
    hosts = ("h1", "h2", "h3", "h4")
    assert {result["served"][h]["before"] for h in hosts} == {"p1 (10.0.0.11)"}
    at = [result["served"][h]["after"].split()[0] for h in hosts]
    assert sorted(at.count(port) for port in ("p1", "p2", "p3")) == [1, 1, 2]
    asked = [e["where"] for e in found.events("async")]
    assert len(asked) == len(set(asked)) == 2
    for host in asked:
        asked_to_move(found, host)


def test_spdk_login_redirection(run_scenario):
    found = passes(run_scenario("spdk-login-redirection"))
    counts = {
        e["moment"]: (e["ports"]["p1"], e["ports"]["p2"]) for e in found.events("connections")
    }
    assert counts == {"begin": (1, 0), "there": (0, 1), "back": (1, 0)}
    assert [e["event"] for e in found.events("async")] == [1, 1]
    assert len(found.events("logout", "h1")) == 2


def test_redirect_to_dead_port(run_scenario):
    found = passes(run_scenario("redirect-to-dead-port"))
    sent = [e["target_address"] for e in found.events("login", "h1") if e["status"] == "0x0101"]
    assert "10.0.0.99:3260" in sent
    assert sent[-1] == "10.0.0.12:3260"


@pytest.mark.parametrize(
    ("name", "to"), [("loop", "10.0.0.1:3260"), ("to-itself", "10.0.0.11:3260")]
)
def test_a_loop_ends_when_the_array_is_mended(run_scenario, name, to):
    found = passes(run_scenario(f"redirect-{name}"))
    answers = [(e["status"], e["target_address"]) for e in found.events("login", "h1")]
    assert answers.count(("0x0101", to)) >= 20
    assert answers[-1][0] == "0x0000"


def test_redirect_permanent(run_scenario):
    found = passes(run_scenario("redirect-permanent"))
    answers = [e["status"] for e in found.events("login", "h1")]
    assert answers == ["0x0102", "0x0000", "0x0101", "0x0000"]


def test_redirect_malformed(run_scenario):
    found = passes(run_scenario("redirect-malformed"))
    asked = len(found.events("async", "h1"))
    answered = [
        e["target_address"]
        for e in found.events("login", "h1")
        if e["status"] == "0x0101" and e["portal"] == "10.0.0.11:3260"
    ]
    wrong = [None, None, "10.0.0.12:port", "10.0.0.12:99999", "p2.a1.invalid:3260"]
    assert (asked, answered) == (5, wrong)


def test_redirect_ipv6(run_scenario):
    found = passes(run_scenario("redirect-ipv6"))
    logins = found.events("login", "h1")
    assert {e["portal"] for e in logins} <= {f"[fd00::{n}]:3260" for n in ("1", "11", "12", "13")}
    assert [e["target_address"] for e in logins if e["status"] == "0x0101"] == [
        "[fd00::11]:3260",
        "[fd00::12]:3260",
    ]
