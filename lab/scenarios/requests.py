"""Async Messages: the array asks hosts to log out, or announces that it drops them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from lab.array.connections import count_connections
from lab.array.policy import Policy
from lab.array.port_relay import GRACE_S
from lab.checks import (
    Check,
    asked_then_moved,
    connection_counts,
    drop_announced,
    dropped_after_grace,
    one_asked_at_a_time,
    served_at,
    session_survived,
    sessions_spread,
)
from lab.faults.network import cable_pulled, initiator_frozen
from lab.run.control import fails
from lab.run.lab import Lab
from lab.run.scenario import scenario
from lab.scenarios.promises import at_home, under_load, undisturbed
from lab.waiting import wait_for

ASKED_BUDGET_MS = 300.0
"""For a move on request, plus Time2Wait: logout, login at the virtual and at the data port."""
CONNECT_MS = 1000.0
"""Time of a connect that takes more than 1 ms: open-iscsi polls it after 1 ms, and then after 1 s
(session_conn_poll, usr/initiator.c)."""
MOVED_BUDGET_MS = 2 * CONNECT_MS + ASKED_BUDGET_MS
"""For a move with two late connects: here the host must move, but not fast."""
TIME2WAIT_S = 2
"""DefaultTime2Wait of open-iscsi. The greater value of both sides counts (RFC 7143, 13.15)."""
_EARLY = {"libiscsi": "it counts Time2Wait in whole clock seconds and comes back too early"}

ASKING = Policy(mode="redirect-only", relay=True)


@contextmanager
def back_again(lab: Lab, seconds: float = 15.0) -> Iterator[None]:
    """The body makes the host log in again. On exit, wait until it has.

    The relay reports the login: asking the host itself would disturb its one processor.
    """
    known = len(lab.array.relay.found("full-feature"))
    yield
    lab.array.relay.wait("full-feature", known + 1, seconds=seconds)


def drain(lab: Lab, port: str) -> None:
    """Drain `port`: the array asks its host to log out. Returns after its next login."""
    with back_again(lab):
        lab.array.tell(command="drain", port=port)


def _move_on_request(lab: Lab, time2wait_s: int, *, asked: bool = True) -> list[Check]:
    """Drain the port with the session, under load: the array asks its host to log out."""
    h1 = lab.host()
    if time2wait_s != TIME2WAIT_S:
        # Both sides must want less than the default, as the greater value counts.
        h1.open_iscsi.configure("node.session.iscsi.DefaultTime2Wait", str(time2wait_s))
    under_load(lab)
    old = h1.address
    if asked:
        drain(lab, lab.array.port_of(old))
    else:
        lab.array.tell(command="drain", port=lab.array.port_of(old))
        lab.observe_for(time2wait_s + 1.0)
    h1.keeps_writing()
    h1.stop_and_verify()
    others = lab.array.data_addresses() - {old}
    return [
        asked_then_moved(h1.name, lab.array.virtual, others),
        served_at(h1.name, old, "before"),
        served_at(h1.name, others, "after"),
        *undisturbed(h1.name, time2wait_s * 1000 + ASKED_BUDGET_MS),
    ]


@scenario(ports=2, policy=ASKING, full_capture=True)
def reconnect_request(lab: Lab) -> Iterable[Check]:
    """The array asks a host to log out: it comes back via the virtual port, to another port."""
    return _move_on_request(lab, TIME2WAIT_S)


@scenario(
    ports=2,
    policy=Policy(mode="redirect-only", relay=True, parameters={"DefaultTime2Wait": "0"}),
    full_capture=True,
    not_for={"libiscsi": "its DefaultTime2Wait cannot be set, and it comes back at once anyway"},
)
def reconnect_request_at_once(lab: Lab) -> Iterable[Check]:
    """The array asks a host to log out and lets it come back at once (DefaultTime2Wait 0)."""
    return _move_on_request(lab, 0)


@scenario(
    ports=2,
    policy=Policy(mode="redirect-only", front="steered"),
    full_capture=True,
    control=fails("asked_then_moved", along={"served_at": "a host that is not asked stays"}),
)
def control_not_asked(lab: Lab) -> Iterable[Check]:
    """reconnect-request without a relay, so without the request: the host stays."""
    return _move_on_request(lab, TIME2WAIT_S, asked=False)


@scenario(
    ports=2,
    policy=ASKING,
    full_capture=True,
    not_for={"libiscsi": "the process to be stopped also does the I/O"},
)
def request_ignored(lab: Lab) -> Iterable[Check]:
    """A host ignores the request: the array drops it after its grace time, and it comes back.

    The host's iscsid is stopped first; its kernel keeps the connection and goes on writing. iscsid
    continues after the connection was dropped.
    """
    h1 = under_load(lab)
    old = h1.address
    frozen = lab.begin(initiator_frozen(lab, h1.name))
    lab.array.tell(command="drain", port=lab.array.port_of(old))
    lab.array.relay.wait("dropped", seconds=GRACE_S + 10.0)
    lab.end(frozen)
    lab.array.relay.wait("full-feature", 2, seconds=15.0)
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        dropped_after_grace(h1.name, GRACE_S),
        served_at(h1.name, lab.array.data_addresses() - {old}, "after"),
        # The command that continues iscsid takes its time in the host.
        *undisturbed(h1.name, TIME2WAIT_S * 1000 + MOVED_BUDGET_MS),
    ]


@scenario(ports=2, policy=ASKING, full_capture=True, not_for=_EARLY)
def drop_announced_connection(lab: Lab) -> Iterable[Check]:
    """The array announces and drops the connection (event 2); the host comes back."""
    return _announced(lab, 2)


@scenario(ports=2, policy=ASKING, full_capture=True, not_for=_EARLY)
def drop_announced_session(lab: Lab) -> Iterable[Check]:
    """The array announces and drops all connections (event 3); the host comes back."""
    return _announced(lab, 3)


def _announced(lab: Lab, event: int) -> list[Check]:
    h1, wait_s = under_load(lab), 1
    # Not the default Time2Wait: the host must take it from the message.
    address = str(h1.spec.addresses[0].ip)
    with back_again(lab):
        lab.array.relay.ask(address, event=event, parameter2=wait_s, parameter3=20)
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        drop_announced(h1.name, lab.array.virtual, event),
        served_at(h1.name, lab.array.data_addresses(), "after"),
        *undisturbed(h1.name, wait_s * 1000 + ASKED_BUDGET_MS),
    ]


@scenario(
    hosts=4,
    ports=2,
    topology="four_hosts",
    policy=Policy(mode="redirect-only", relay=True, hold_s=1.0),
    full_capture=True,
)
def rebalance(lab: Lab) -> Iterable[Check]:
    """Ports come back: the array balances its load by requests, one host at a time."""
    hosts = lab.some_hosts(4)
    kept, *away = [port.name for port in lab.array.spec.ports]
    pulled = [lab.begin(cable_pulled(lab, name)) for name in away]
    wait_for(
        f"the array to notice that {' and '.join(away)} are down",
        lambda: {e["port"] for e in lab.timeline.events("controller") if e["what"] == "port-down"},
        until=lambda down: down >= set(away),
        seconds=5.0,
    )
    for host in hosts:
        host.login()
        host.session("before")
    # Only one writes, as they share one disk; the array asks this one first.
    writing = hosts[0]
    writing.start_writing()
    for number in pulled:
        lab.end(number)
    wait_for(
        "the load to be even",
        lambda: count_connections(lab.array, lab.timeline, "rebalancing"),
        until=lambda count: max(count.values()) - min(count.values()) <= 1,
        seconds=30.0,
        every=0.2,
    )
    writing.keeps_writing()
    writing.stop_and_verify()
    for host in hosts[1:]:
        host.session("after")
    home = lab.array.address_of(kept)
    return [
        one_asked_at_a_time(2),
        sessions_spread(),
        *(served_at(host.name, home, "before") for host in hosts),
        *(session_survived(host.name) for host in hosts[1:]),
        *undisturbed(writing.name, TIME2WAIT_S * 1000 + MOVED_BUDGET_MS),
    ]


@scenario(
    ports=2,
    policy=at_home(mode="redirect-only", relay=True),
    full_capture=True,
)
def spdk_login_redirection(lab: Lab) -> Iterable[Check]:
    """The array asks a host to move to another port and back: always one connection, in place.

    After SPDK's test login_redirection, which uses two targets with a portal each.
    """
    h1, (first, second) = under_load(lab), [port.name for port in lab.array.spec.ports[:2]]
    count_connections(lab.array, lab.timeline, "begin")
    drain(lab, first)
    h1.keeps_writing()
    count_connections(lab.array, lab.timeline, "there")
    with back_again(lab):
        lab.array.tell(command="undrain", port=first)
        lab.array.tell(command="rebalance")
    h1.keeps_writing()
    count_connections(lab.array, lab.timeline, "back")
    h1.stop_and_verify()
    return [
        connection_counts("begin", f"{first} 1, {second} 0"),
        connection_counts("there", f"{first} 0, {second} 1"),
        connection_counts("back", f"{first} 1, {second} 0"),
        asked_then_moved(h1.name, lab.array.virtual, lab.array.address_of(first)),
        *undisturbed(h1.name, TIME2WAIT_S * 1000 + MOVED_BUDGET_MS),
    ]
