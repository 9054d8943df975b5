"""Negative controls of requests, drops and redirects: arrays and hosts that go another way."""

from __future__ import annotations

from collections.abc import Iterable

from lab.array.connections import count_connections
from lab.array.port_relay import GRACE_S
from lab.checks import (
    Check,
    asked_then_moved,
    came_back_to,
    connection_counts,
    drop_announced,
    dropped_after_grace,
    logins_sent_to,
    one_asked_at_a_time,
    redirected_at_login,
    same_connection,
    served_at,
    session_survived,
)
from lab.faults.network import initiator_frozen
from lab.host.attempts import try_login
from lab.host.host import LabHost
from lab.run.control import fails
from lab.run.lab import Lab
from lab.run.scenario import scenario
from lab.scenarios.identity import NEEDS_KERNEL
from lab.scenarios.login import NOWHERE
from lab.scenarios.promises import TAKEOVER_BUDGET_MS, at_home, under_load, undisturbed
from lab.scenarios.requests import ASKING, MOVED_BUDGET_MS, TIME2WAIT_S, back_again

BUDGET_MS = TIME2WAIT_S * 1000 + MOVED_BUDGET_MS
HOME = at_home(mode="redirect-only", relay=True)


def _address(host: LabHost) -> str:
    return str(host.spec.addresses[0].ip)


def _port(lab: Lab, place: int) -> str:
    """The data address of the port at this place in the topology."""
    return lab.array.address_of(lab.array.spec.ports[place].name)


def _dropped(lab: Lab, to: int) -> LabHost:
    """The array drops the first host under load, and sends it to the port at the place `to`."""
    h1 = under_load(lab)
    lab.array.send_to(_address(h1), _port(lab, to))
    with back_again(lab):
        lab.array.relay.ask(_address(h1), event=2, parameter2=1, parameter3=20)
    h1.keeps_writing()
    h1.stop_and_verify()
    return h1


@scenario(ports=2, policy=HOME, full_capture=True, control=fails("asked_then_moved"))
def control_dropped_not_asked(lab: Lab) -> Iterable[Check]:
    """reconnect-request by an array that drops the host instead of asking it to log out."""
    h1 = _dropped(lab, 1)
    others = lab.array.data_addresses() - {_port(lab, 0)}
    return [
        asked_then_moved(h1.name, lab.array.virtual, others),
        served_at(h1.name, _port(lab, 0), "before"),
        served_at(h1.name, others, "after"),
        *undisturbed(h1.name, BUDGET_MS),
    ]


@scenario(
    ports=2,
    policy=HOME,
    full_capture=True,
    control=fails("served_at"),
)
def control_sent_back(lab: Lab) -> Iterable[Check]:
    """port-loss with a port that lives: the host loses its connection, and comes back there."""
    h1 = _dropped(lab, 0)
    left = lab.array.data_addresses() - {_port(lab, 0)}
    return [
        redirected_at_login(h1.name, lab.array.virtual, to=lab.array.data_addresses()),
        served_at(h1.name, left, "after"),
        *undisturbed(h1.name, BUDGET_MS),
    ]


@scenario(ports=2, policy=HOME, full_capture=True, control=fails("same_connection"))
def control_connection_lost(lab: Lab) -> Iterable[Check]:
    """port-takeover by an array that drops the host's connection: a new one takes its place."""
    h1 = _dropped(lab, 0)
    return [
        same_connection(h1.name),
        served_at(h1.name, _port(lab, 0), "after"),
        *undisturbed(h1.name, BUDGET_MS),
    ]


@scenario(ports=2, policy=HOME, full_capture=True, control=fails("drop_announced", quick=True))
def control_drop_unannounced(lab: Lab) -> Iterable[Check]:
    """drop-announced-connection by an array that drops the connection without a message."""
    h1 = under_load(lab)
    with back_again(lab):
        lab.array.relay.command("drop", select={"peer": _address(h1)})
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        drop_announced(h1.name, lab.array.virtual, 2),
        served_at(h1.name, lab.array.data_addresses(), "after"),
        *undisturbed(h1.name, BUDGET_MS),
    ]


@scenario(
    ports=2,
    policy=HOME,
    full_capture=True,
    not_for={"libiscsi": "the process to be stopped also does the I/O"},
    control=fails("dropped_after_grace"),
)
def control_dropped_early(lab: Lab) -> Iterable[Check]:
    """request-ignored by an array that drops the host at once, not after its grace time."""
    h1 = under_load(lab)
    lab.array.send_to(_address(h1), _port(lab, 1))
    frozen = lab.begin(initiator_frozen(lab, h1.name))
    lab.array.relay.ask(_address(h1))
    lab.observe_for(1.0)
    with back_again(lab):
        lab.array.relay.command("drop", select={"peer": _address(h1)})
        lab.end(frozen)
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        dropped_after_grace(h1.name, GRACE_S),
        served_at(h1.name, lab.array.data_addresses() - {_port(lab, 0)}, "after"),
        *undisturbed(h1.name, BUDGET_MS),
    ]


@scenario(
    hosts=2,
    ports=2,
    policy=at_home(2, mode="redirect-only", relay=True),
    full_capture=True,
    control=fails("one_asked_at_a_time"),
)
def control_asked_at_once(lab: Lab) -> Iterable[Check]:
    """The array asks two hosts to log out at the same time."""
    h1, h2 = under_load(lab), lab.host(1)
    h2.login()
    h2.session("before")
    for host in (h1, h2):
        lab.array.send_to(_address(host), _port(lab, 1))
    known = len(lab.array.relay.found("full-feature"))
    lab.array.relay.command("async", event=1, parameter3=GRACE_S)
    lab.array.relay.wait("full-feature", known + 2, seconds=15.0)
    h1.keeps_writing()
    h1.stop_and_verify()
    h2.session("after")
    return [
        one_asked_at_a_time(2),
        session_survived(h2.name),
        *undisturbed(h1.name, BUDGET_MS),
    ]


@scenario(
    ports=2, policy=ASKING, full_capture=True, not_for=NEEDS_KERNEL, control=fails("came_back_to")
)
def control_came_back_elsewhere(lab: Lab) -> Iterable[Check]:
    """A host that knows a data port logs in there, also after a request to log out."""
    h1, data = lab.host(), _port(lab, 0)
    try_login(h1, data)
    h1.start_writing()
    h1.keeps_writing()
    with back_again(lab):
        lab.array.relay.ask(_address(h1))
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        came_back_to(h1.name, lab.array.virtual),
        served_at(h1.name, data, "after"),
        *undisturbed(h1.name, BUDGET_MS),
    ]


@scenario(ports=2, policy=ASKING, full_capture=True, control=fails("logins_sent_to"))
def control_sent_elsewhere(lab: Lab) -> Iterable[Check]:
    """redirect-to-dead-port by an array that redirects the host to a live port instead."""
    h1, alive = under_load(lab), _port(lab, 1)
    lab.array.send_to(_address(h1), alive)
    with back_again(lab):
        lab.array.relay.ask(_address(h1))
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        logins_sent_to(h1.name, NOWHERE, at=lab.array.virtual),
        served_at(h1.name, alive, "after"),
        *undisturbed(h1.name, BUDGET_MS),
    ]


@scenario(ports=2, policy=ASKING, control=fails("redirected_at_login"))
def control_not_permanent(lab: Lab) -> Iterable[Check]:
    """redirect-permanent by an array that says "moved temporarily"."""
    h1, there = lab.host(), _port(lab, 1)
    lab.array.send_to(_address(h1), there)
    h1.login()
    h1.write_and_verify()
    return [
        redirected_at_login(h1.name, lab.array.virtual, there, status="0x0102"),
        served_at(h1.name, there, "after"),
        *undisturbed(h1.name, TAKEOVER_BUDGET_MS),
    ]


@scenario(hosts=2, ports=2, policy=at_home(2), control=fails("connection_counts"))
def control_one_too_many(lab: Lab) -> Iterable[Check]:
    """A second host is connected to the port that should have one connection."""
    h1, (first, second) = under_load(lab), [port.name for port in lab.array.spec.ports[:2]]
    lab.host(1).login()
    count_connections(lab.array, lab.timeline, "begin")
    h1.stop_and_verify()
    return [
        connection_counts("begin", f"{first} 1, {second} 0"),
        *undisturbed(h1.name, TAKEOVER_BUDGET_MS),
    ]
