"""IPv4 and IPv6 at one array: each host is answered in its own family, and both move together."""

from __future__ import annotations

from collections.abc import Iterable

from lab.array.array import Policy
from lab.checks import (
    Check,
    moved_to,
    redirected_at_login,
    same_connection,
    served_at,
)
from lab.faults.network import cable_pulled
from lab.host.host import LabHost
from lab.run.lab import Lab
from lab.run.scenario import scenario
from lab.scenarios.promises import TAKEOVER_BUDGET_MS, undisturbed


@scenario(
    hosts=("h1", "h2"),
    topology="mixed_families",
    policy=Policy(redirect="fixed", fixed={"h1": "p1", "h2": "p1"}),
)
def mixed_families(lab: Lab) -> Iterable[Check]:
    """A host with IPv4 and one with IPv6: the port of both dies, and all its addresses move."""
    hosts = [lab.host("h1"), lab.host("h2")]
    home = lab.array.spec.home
    ends = {"h1": lab.array.address_of(home.name, 4), "h2": lab.array.address_of(home.name, 6)}
    for host in hosts:
        host.login()
        host.start_writing()
        host.keeps_writing()
    lab.begin(cable_pulled(lab, home.name))
    for host in hosts:
        host.keeps_writing()
        host.stop_and_verify()
    others = {port.name for port in lab.array.spec.ports} - {home.name}
    moved = [*home.addresses, *lab.array.spec.virtual]
    return [
        *(moved_to(str(address.ip), others) for address in moved),
        *(check for host in hosts for check in _served_at(host, ends[host.name])),
    ]


def _served_at(host: LabHost, at: str) -> list[Check]:
    name = host.name
    return [
        redirected_at_login(name, host.virtual, at),
        served_at(name, at, "after"),
        same_connection(name),
        *undisturbed(name, TAKEOVER_BUDGET_MS),
    ]


@scenario(hosts=("h3",), topology="mixed_families", policy=Policy(front="steered"))
def redirect_across_families(lab: Lab) -> Iterable[Check]:
    """A host with both is sent from the IPv4 virtual port to an IPv6 data port, which then dies."""
    h3, port = lab.host("h3"), lab.array.spec.ports[1].name
    six = lab.array.address_of(port, 6)
    lab.array.send_to(str(h3.spec.addresses[0].ip), six)
    h3.login()
    h3.start_writing()
    h3.keeps_writing()
    lab.begin(cable_pulled(lab, port))
    h3.keeps_writing()
    h3.stop_and_verify()
    return [
        redirected_at_login("h3", h3.virtual, six),
        served_at("h3", six, "after"),
        same_connection("h3"),
        moved_to(six, away_from=port),
        *undisturbed("h3", TAKEOVER_BUDGET_MS),
    ]
