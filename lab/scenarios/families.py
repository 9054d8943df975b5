"""IPv4 and IPv6 at one array: redirects stay in the host's family, both families move."""

from __future__ import annotations

from collections.abc import Iterable

from lab.array.policy import Policy
from lab.checks import (
    Check,
    moved_to,
    redirected_at_login,
    same_connection,
    served_at,
)
from lab.errors import BadInput
from lab.faults.network import cable_pulled
from lab.host.host import LabHost
from lab.run.lab import Lab
from lab.run.scenario import scenario
from lab.scenarios.promises import TAKEOVER_BUDGET_MS, undisturbed
from lab.topology.topology import ArrayTopo


def _named(topo: ArrayTopo, *families: int) -> str:
    """The first host with addresses of exactly `families` (4, 6); BadInput if there is none."""
    for host in topo.initiators.values():
        if {address.version for address in host.addresses} == set(families):
            return host.name
    only = " and ".join(f"IPv{family}" for family in families)
    raise BadInput(f"it needs a host with {only} and nothing else; try mixed_families")


def _one_of_each(topo: ArrayTopo) -> Policy:
    fixed = dict.fromkeys((_named(topo, 4), _named(topo, 6)), topo.storage.home.name)
    return Policy(redirect="fixed", fixed=fixed)


def _one_with_both(topo: ArrayTopo) -> Policy:
    _named(topo, 4, 6)
    return Policy(front="steered")


@scenario(hosts=2, ports=2, topology="mixed_families", policy=_one_of_each)
def mixed_families(lab: Lab) -> Iterable[Check]:
    """A host with IPv4 and one with IPv6: the port of both dies, and all its addresses move."""
    home = lab.array.spec.home
    families = {_named(lab.setup.topo, family): family for family in (4, 6)}
    hosts = [lab.host(name) for name in families]
    ends = {name: lab.array.address_of(home.name, family) for name, family in families.items()}
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


@scenario(ports=2, topology="mixed_families", policy=_one_with_both)
def redirect_across_families(lab: Lab) -> Iterable[Check]:
    """A host with both is redirected from IPv4 to an IPv6 data port, which then dies."""
    h3, port = lab.host(_named(lab.setup.topo, 4, 6)), lab.array.spec.ports[1].name
    six = lab.array.address_of(port, 6)
    lab.array.send_to(str(h3.spec.addresses[0].ip), six)
    h3.login()
    h3.start_writing()
    h3.keeps_writing()
    lab.begin(cable_pulled(lab, port))
    h3.keeps_writing()
    h3.stop_and_verify()
    return [
        redirected_at_login(h3.name, h3.virtual, six),
        served_at(h3.name, six, "after"),
        same_connection(h3.name),
        moved_to(six, away_from=port),
        *undisturbed(h3.name, TAKEOVER_BUDGET_MS),
    ]
