"""Wrong login answers to a host with a disk in use.

In each scenario the array asks the host to log out, and answers its next logins wrongly; then it
answers rightly again. The initiator does not limit redirections (open-iscsi, __session_conn_reopen
in usr/initiator.c), so the array ends each loop.
"""

from __future__ import annotations

from collections.abc import Iterable

from lab.checks import (
    Check,
    asked_then_moved,
    came_back_to,
    logins_sent_to,
    redirected_at_login,
    served_at,
)
from lab.portal import Portal
from lab.run.lab import Lab
from lab.run.scenario import scenario
from lab.scenarios.promises import under_load, undisturbed
from lab.scenarios.requests import (
    ASKING,
    CONNECT_MS,
    MOVED_BUDGET_MS,
    TIME2WAIT_S,
    back_again,
    drain,
)

WRONG_TIMES = 20
"""How often the array answers wrongly."""
WRONG_BUDGET_MS = (2 * WRONG_TIMES + 2) * CONNECT_MS
"""For that many connects to the virtual port and to the data port, each of them late."""
DEAD_S = 5.0
"""Seconds for which the array redirects its hosts to a dead address."""
DEAD_BUDGET_MS = 20_000.0
"""A SYN that nobody answers: ARP gives up after 3 s, or the login time-out of 15 s."""
NOWHERE = "10.0.0.99:3260"
MALFORMED_BUDGET_MS = 8000.0
"""The host cuts too large a port number to 16 bits, is refused, and retries after 5 s."""
MALFORMED = (None, "", "10.0.0.12:port", "10.0.0.12:99999", "p2.a1.invalid:3260")
"""TargetAddress: missing, empty, port no number, port number too large, unknown name."""


@scenario(ports=2, policy=ASKING, full_capture=True)
def redirect_to_dead_port(lab: Lab) -> Iterable[Check]:
    """The virtual port redirects a host to a dead address for a while, then to a live port."""
    h1 = under_load(lab)
    address = str(h1.spec.addresses[0].ip)
    lab.array.send_to(address, NOWHERE)
    lab.array.relay.ask(address)
    lab.observe_for(TIME2WAIT_S + DEAD_S)
    alive = lab.array.address_of(lab.array.spec.ports[1].name)
    lab.array.send_to(address, alive)
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        logins_sent_to(h1.name, NOWHERE, at=lab.array.virtual),
        served_at(h1.name, alive, "after"),
        *undisturbed(h1.name, (TIME2WAIT_S + DEAD_S) * 1000 + DEAD_BUDGET_MS),
    ]


@scenario(ports=2, policy=ASKING, full_capture=True)
def redirect_loop(lab: Lab) -> Iterable[Check]:
    """Data ports and virtual port redirect to each other, until the array ends the loop."""
    return _loop(lab, str(Portal(lab.array.virtual)))


@scenario(ports=2, policy=ASKING, full_capture=True)
def redirect_to_itself(lab: Lab) -> Iterable[Check]:
    """A data port redirects to itself, until the array ends the loop."""
    return _loop(lab, "{local}")


def _loop(lab: Lab, to: str) -> list[Check]:
    h1 = under_load(lab)
    address = str(h1.spec.addresses[0].ip)
    here = lab.array.address_of(lab.array.spec.ports[0].name)
    lab.array.relay.misdirect(address, None, target_address=to)
    lab.array.relay.ask(address)
    lab.array.relay.wait("login-answered", WRONG_TIMES, seconds=50.0)
    lab.array.relay.command("clear")
    h1.keeps_writing()
    h1.stop_and_verify()
    to = to.replace("{local}", str(Portal(here)))
    return [
        logins_sent_to(h1.name, to, at=here, times=WRONG_TIMES),
        served_at(h1.name, lab.array.data_addresses(), "after"),
        *undisturbed(h1.name, TIME2WAIT_S * 1000 + WRONG_BUDGET_MS),
    ]


@scenario(
    ports=2,
    policy=ASKING,
    full_capture=True,
    not_for={"libiscsi": "it treats status 0x0102 as an error, and does not log in"},
)
def redirect_permanent(lab: Lab) -> Iterable[Check]:
    """Moved permanently (0x0102): the host follows, but later logs in at the virtual port again.

    It must, because the port it was redirected to may die. (RFC 7143, 11.13.5, asks hosts to keep
    such an address for all later logins; open-iscsi treats both redirections alike.)
    """
    h1 = lab.host()
    address = str(h1.spec.addresses[0].ip)
    there = lab.array.address_of(lab.array.spec.ports[1].name)
    lab.array.send_to(address, there, permanent=True)
    h1.login()
    h1.start_writing()
    h1.keeps_writing()
    with back_again(lab):
        lab.array.relay.ask(address)
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        redirected_at_login(h1.name, lab.array.virtual, there, status="0x0102"),
        came_back_to(h1.name, lab.array.virtual),
        served_at(h1.name, there, "after"),
        *undisturbed(h1.name, TIME2WAIT_S * 1000 + MOVED_BUDGET_MS),
    ]


@scenario(
    policy=ASKING,
    full_capture=True,
    not_for={"libiscsi": "it never retries after a redirection to an unknown name"},
)
def redirect_malformed(lab: Lab) -> Iterable[Check]:
    """Redirections with a missing or malformed address, each followed by right answers."""
    h1 = under_load(lab)
    address = str(h1.spec.addresses[0].ip)
    for number, wrong in enumerate(MALFORMED, 1):
        lab.array.relay.misdirect(address, 1, target_address=wrong)
        lab.array.relay.ask(address)
        lab.array.relay.wait("full-feature", number + 1, seconds=TIME2WAIT_S + 20.0)
        h1.keeps_writing()
    h1.stop_and_verify()
    blank = sum(not wrong for wrong in MALFORMED)
    return [
        logins_sent_to(h1.name, None, times=blank),
        *(logins_sent_to(h1.name, wrong) for wrong in MALFORMED if wrong),
        served_at(h1.name, lab.array.data_addresses(), "after"),
        *undisturbed(h1.name, TIME2WAIT_S * 1000 + MALFORMED_BUDGET_MS),
    ]


@scenario(ports=2, policy=ASKING, topology="one_switch6", full_capture=True)
def redirect_ipv6(lab: Lab) -> Iterable[Check]:
    """IPv6: a host is redirected to a bracketed address, asked to log out, redirected again."""
    h1 = under_load(lab)
    old = h1.address
    drain(lab, lab.array.port_of(old))
    h1.keeps_writing()
    h1.stop_and_verify()
    others = lab.array.data_addresses() - {old}
    return [
        redirected_at_login(h1.name, lab.array.virtual, old),
        asked_then_moved(h1.name, lab.array.virtual, others),
        served_at(h1.name, others, "after"),
        *undisturbed(h1.name, TIME2WAIT_S * 1000 + MOVED_BUDGET_MS),
    ]
