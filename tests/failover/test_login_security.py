"""Login security on a real lab each, and at the steered front by itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.array.site import Site
from lab.scenarios import access
from lab.suite.net import HOSTS, PORTS, VIRTUAL, Net, initiator_name, network
from lab.suite.wire import Initiator
from lab.timeline import Timeline
from lab.waiting import wait_for
from targets.base import ChapAccount, LogicalUnit, TargetSpec
from targets.engines import ENGINES
from targets.front.steered import SteeredFront
from targets.tgt.engine import Tgt

IQN = "iqn.2024-01.lab.a1:disk"
ASKING = ChapAccount("asking", "discover-this-1")
ALICE = ChapAccount("alice", "correct-horse-9")
REFUSED, FORBIDDEN = 0x0201, 0x0202
PORT_ADDRESSES = {"10.0.0.11", "10.0.0.12", "10.0.0.13"}


def timeline(result) -> Timeline:
    return Timeline.read(Path(result["folder"]) / "timeline.jsonl")


def passes(result) -> Timeline:
    wrong = [c for c in result["checks"] if c["verdict"] != "pass"]
    assert result["verdict"] == "pass", json.dumps(wrong, indent=1)
    # The check is not believed here: every file once more, as they are now.
    secrets = {a.secret for a in vars(access).values() if isinstance(a, ChapAccount)}
    for path in Path(result["folder"]).rglob("*"):
        if path.is_file() and "luns" not in path.parts:
            data = path.read_bytes()
            assert not [secret for secret in secrets if secret.encode() in data], path
    return timeline(result)


def answers(found: Timeline, host: str, kind: str = "login") -> list[tuple[str, str | None]]:
    """Where the host asked and what it was told: "virtual" or "port", and the status."""
    told = [(e["portal"].rpartition(":")[0], e["status"]) for e in found.events(kind, host)]
    assert {address for address, _ in told} <= {VIRTUAL, *PORT_ADDRESSES}
    return [("virtual" if address == VIRTUAL else "port", status) for address, status in told]


def exits(found: Timeline, host: str) -> list[int]:
    return [e["status"] for e in found.events("attempt", host)]


@pytest.fixture(params=ENGINES)
def target(request) -> str:
    return request.param


AGAIN = [("virtual", "0x0101"), ("port", "0x0000")] * 2
SENT_ON = ("virtual", "0x0101")


@pytest.mark.parametrize(("kind", "who"), [("", ["host"]), ("-mutual", ["host", "target"])])
def test_redirect_with_chap(run_scenario, target, kind, who):
    result = run_scenario(f"redirect-with{kind}-chap", "--target", target)
    found = passes(result)
    assert answers(found, "h1") == AGAIN
    shown = [e["proved"] for e in found.events("login", "h1")]
    assert shown == [[], who, [], who]
    before, after = (result["served"]["h1"][moment] for moment in ("before", "after"))
    assert before != after


def test_served_with_chap(run_scenario, target):
    found = passes(run_scenario("served-with-chap", "--target", target))
    assert answers(found, "h1") == [("virtual", "0x0000")]
    assert answers(found, "h2") == [("virtual", "0x0201")]
    assert exits(found, "h2") == [24]
    assert {e["where"] for e in found.events("scsi")} == {"h1"}


def test_discovery_with_chap(run_scenario, target):
    found = passes(run_scenario("discovery-with-chap", "--target", target))
    told = [answers(found, host, "discovery-login") for host in ("h1", "h2", "h3")]
    assert told == [[("virtual", status)] for status in ("0x0000", "0x0201", "0x0201")]
    assert [e["where"] for e in found.events("discovery-wire")] == ["h1"]
    assert exits(found, "h2") == exits(found, "h3") == [24]


def test_chap_wrong_secret(run_scenario, target):
    found = passes(run_scenario("chap-wrong-secret", "--target", target))
    assert answers(found, "h2") == [SENT_ON, ("port", "0x0201")]


def test_chap_missing_secret(run_scenario, target):
    found = passes(run_scenario("chap-missing-secret", "--target", target))
    at_once, at_port = [("virtual", "0x0201")], [SENT_ON, ("port", "0x0201")]
    assert answers(found, "h2") == {"tgt": at_once, "lio": at_port}[target]


def test_chap_wrong_direction(run_scenario, target):
    found = passes(run_scenario("chap-wrong-direction", "--target", target))
    assert answers(found, "h2") == [SENT_ON, ("port", None)]
    assert answers(found, "h3") == [SENT_ON, ("port", "0x0201")]
    assert (exits(found, "h2"), exits(found, "h3")) == ([19], [24])


def test_chap_no_proof(run_scenario, target):
    found = passes(run_scenario("chap-no-proof", "--target", target))
    status = {"tgt": "0x0201", "lio": None}[target]
    assert answers(found, "h2") == [SENT_ON, ("port", status)]


def test_initiator_not_allowed(run_scenario, target):
    found = passes(run_scenario("initiator-not-allowed", "--target", target))
    assert exits(found, "h2")[0] == 21  # no portals found
    refused = {
        "tgt": [SENT_ON, ("port", "0x0203"), ("port", "0x0203")],
        "lio": [("virtual", "0x0202"), ("port", "0x0202")],
    }
    assert answers(found, "h2") == refused[target]


def failed_checks(result) -> set[str]:
    assert result["verdict"] == "fail"
    return {c["name"].split("(")[0] for c in result["checks"] if c["verdict"] == "fail"}


def test_an_array_that_does_not_check_fails(run_scenario, target):
    result = run_scenario("control-chap-not-checked", "--target", target)
    assert failed_checks(result) == {"login_refused", "nothing_served"}
    assert {e["where"] for e in timeline(result).events("scsi")} == {"h1", "h2"}


def test_a_secret_in_a_log_fails(run_scenario):
    result = run_scenario("control-secret-in-a-log")
    assert failed_checks(result) == {"no_secret_leaked"}
    (evidence,) = [c["evidence"] for c in result["checks"] if c["verdict"] == "fail"]
    assert "logs/h1-support.log" in evidence
    assert "sesame" not in json.dumps(result)


def test_libiscsi_is_refused_with_the_reason(lab_command, tmp_path):
    ran = lab_command(
        "run", "chap-wrong-secret", "--initiator", "libiscsi", "--out", tmp_path / "run"
    )
    assert ran.status == 2
    assert "iscsiadm" in ran.err


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with network() as made:
        yield made


@pytest.fixture
def array(net, tmp_path) -> Iterator[tuple[Tgt, SteeredFront, list[dict]]]:
    """A steered front that asks at discovery, a tgtd that asks at login; one host is allowed."""
    events: list[dict] = []
    engine = Tgt(net.array, tmp_path / "work", tmp_path / "logs")
    site = Site(net.array, tmp_path / "work")
    front = SteeredFront(site, tmp_path / "logs", on_event=events.append)
    disk = LogicalUnit(1, tmp_path / "disk1", 16 << 20, "a1000001", "SN0001")
    target = TargetSpec(IQN, (disk,), (ALICE,), (initiator_name(HOSTS[0]),))
    try:
        engine.start()
        engine.create(target)
        engine.expose(PORTS[0])
        front.protect_discovery(ASKING)
        front.start([VIRTUAL], [target], engine.local_portal)
        yield engine, front, events
    finally:
        front.stop()
        engine.stop()


@pytest.fixture
def host(net) -> Iterator[Callable[..., Initiator]]:
    opened: list[Initiator] = []

    def connect(source: str = HOSTS[0]) -> Initiator:
        opened.append(Initiator(net.hosts_pid, source, initiator_name(source)))
        return opened[-1].connect(VIRTUAL)

    yield connect
    for initiator in opened:
        initiator.close()


def test_the_front_asks_at_discovery(array, host):
    _, front, events = array
    asking = host()
    assert asking.login(None, "asking", ASKING.secret).status == 0
    assert asking.discover() == [(IQN, f"{VIRTUAL}:3260,1")]
    for user, secret in (("asking", "discover-that-1"), ("alice", ASKING.secret), ("", "")):
        assert host().login(None, user, secret).status == REFUSED
    wait_for("the refusals", lambda: len(events) == 3, seconds=2)
    assert {(e["what"], e["status"], e["target"]) for e in events} == {("refused", "0x0201", "")}
    assert ASKING.secret not in front.log.read_text() + str(events)


def test_nobody_gets_past_the_front_by_leaving_stages_out(array, host):
    names = {"InitiatorName": initiator_name(HOSTS[0]), "SessionType": "Discovery"}
    assert host().login_step(0x87, names)[1].status == REFUSED
    early = host()
    early.login_step(0x00, {**names, "AuthMethod": "CHAP"})
    early.send(0x04, 0x80, b"SendTargets=All\0", middle=b"\xff" * 4, itt=7)
    with pytest.raises((EOFError, ConnectionError)):
        early.receive()


def test_a_host_that_is_not_on_the_list_is_neither_redirected_nor_served(array, host):
    _, front, events = array
    for answer in (PORTS[0], None):
        front.steer(None, answer)
        assert host(HOSTS[1]).login(IQN, "alice", ALICE.secret).status == FORBIDDEN
    stranger = host(HOSTS[1])
    assert stranger.login(None, "asking", ASKING.secret).status == 0
    assert stranger.discover() == []
    wait_for("the refusals", lambda: len(events) == 2, seconds=2)
    assert {(e["what"], e["status"], e["host"]) for e in events} == {
        ("refused", "0x0202", HOSTS[1])
    }


def test_a_host_that_is_served_here_proves_itself_to_the_engine(array, host):
    _, front, _ = array
    front.steer(None, None)
    assert host().login(IQN, "alice", "wrong-horse-12").status == REFUSED
    assert host().login(IQN).status == REFUSED
    assert host().login(IQN, "alice", ALICE.secret).status == 0
