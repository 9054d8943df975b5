"""The virtual port: who is sent where, and what discovery shows."""

from __future__ import annotations

import pytest
from at_virtual import HOST, IQN, MOVED, MOVED_FOR_EVER, SECRET_IQN, sent_to

from lab.controller.output import Steering
from lab.suite.net import HOST6, HOSTS, PORT6, PORTS, VIRTUAL, VIRTUAL6
from lab.waiting import wait_for


def test_each_host_is_sent_to_its_port(front, host):
    front.steer(HOSTS[0], PORTS[1])
    front.steer(HOSTS[1], PORTS[2])
    front.steer(None, PORTS[0])
    for source, port in zip(HOSTS, (PORTS[1], PORTS[2], PORTS[0]), strict=True):
        initiator = host(source=source)
        login = initiator.login(IQN)
        assert (login.status, sent_to(login)) == (MOVED, f"{port}:3260")
        assert login.isid == initiator.isid


def test_the_controller_and_the_front_agree(array, host):
    """Who is known is sent on or served, who is not gets the default: lab/controller/output.py."""
    _, front, _ = array
    steering = Steering(front.steering)
    steering.write(HOSTS[0], PORTS[1])
    steering.write(HOSTS[1], None)
    steering.write("default", PORTS[2])
    assert sent_to(host().login(IQN)) == f"{PORTS[1]}:3260"
    assert host(source=HOSTS[1]).login(IQN).status == 0
    assert sent_to(host(source=HOSTS[2]).login(IQN)) == f"{PORTS[2]}:3260"
    steering.write("default", None)
    assert host(source=HOSTS[2]).login(IQN).status == 0


def test_a_new_answer_counts_at_once(front, host):
    front.steer(HOSTS[0], PORTS[1])
    assert sent_to(host().login(IQN)) == f"{PORTS[1]}:3260"
    front.steer(HOSTS[0], PORTS[2], permanent=True)
    login = host().login(IQN)
    assert (login.status, sent_to(login)) == (MOVED_FOR_EVER, f"{PORTS[2]}:3260")


def test_with_no_answer_the_service_is_unavailable(front, host):
    assert host().login(IQN).status == 0x0301


def test_an_answer_that_makes_no_sense_is_a_target_error(front, host):
    front.steer(HOSTS[0], PORTS[0])
    (front.steering / HOSTS[0]).write_text("10.0.0.12:3260:Sometimes\n")
    assert host().login(IQN).status == 0x0300


def test_libiscsi_goes_where_it_is_sent(net, array):
    _, front, events = array
    front.steer(None, PORTS[1])
    qemu = ["qemu-io", "-f", "raw", "-t", "none", "-c"]
    net.hosts.run([*qemu, "write -P 0x21 0 256k", f"iscsi://{VIRTUAL}/{IQN}/1"])
    wait_for("an event", lambda: events, seconds=2)
    assert {e["to"] for e in events} == {f"{PORTS[1]}:3260"}
    net.hosts.run([*qemu, "read -P 0x21 0 256k", f"iscsi://{PORTS[2]}/{IQN}/1"])


@pytest.mark.parametrize(
    ("virtual", "source", "shown"),
    [(VIRTUAL, HOSTS[0], f"{VIRTUAL}:3260,1"), (VIRTUAL6, HOST6, f"[{VIRTUAL6}]:3260,1")],
)
def test_discovery_shows_the_virtual_port_only(front, host, virtual, source, shown):
    initiator = host(virtual, source)
    login = initiator.login(None)
    assert login.status == 0
    assert login.keys["AuthMethod"] == "None"
    assert login.keys["X-lab.test"] == "NotUnderstood"
    assert initiator.discover() == [(IQN, shown)]
    assert initiator.discover(IQN) == [(IQN, shown)]
    assert initiator.discover("iqn.2024-01.lab.a1:none") == []
    assert initiator.ping() == b"still there?"
    initiator.send(0x46, 0x80, itt=11)
    assert initiator.receive()[0][0] == 0x26
    named = host(virtual, source, name="iqn.2024-01.lab.h9:host")
    assert named.login(None).status == 0
    assert named.discover() == [(IQN, shown), (SECRET_IQN, shown)]


def test_each_family_has_its_default(front, host):
    front.steer(None, PORTS[0])
    (front.steering / "default6").write_text(f"[{PORT6}]:3260:Temporary\n")
    assert sent_to(host(VIRTUAL6, HOST6).login(IQN)) == f"[{PORT6}]:3260"
    assert sent_to(host().login(IQN)) == f"{PORTS[0]}:3260"
    (front.steering / "default6").unlink()
    assert host(VIRTUAL6, HOST6).login(IQN).status == 0x0301


def test_ipv6_redirect(front, host):
    front.steer(HOST6, PORT6)
    front.steer(HOSTS[0], PORT6)
    assert sent_to(host(VIRTUAL6, HOST6).login(IQN)) == f"[{PORT6}]:3260"
    assert sent_to(host().login(IQN)) == f"[{PORT6}]:3260"
    front.steer(HOST6, None)
    assert host(VIRTUAL6, HOST6).login(IQN).status == 0


def test_what_is_missing_in_a_login_is_named(front, host):
    assert host().login("iqn.2024-01.lab.a1:none").status == 0x0203
    assert host().login_step(0x81, {"TargetName": IQN})[1].status == 0x0207
    assert host().login_step(0x81, {"InitiatorName": HOST})[1].status == 0x0207
    assert host().login_step(0x41, {"InitiatorName": HOST})[1].status == 0x0200
    chap_only = {"InitiatorName": HOST, "SessionType": "Discovery", "AuthMethod": "CHAP"}
    assert host().login_step(0x81, chap_only)[1].status == 0x0201
