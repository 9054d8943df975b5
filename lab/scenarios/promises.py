"""The promises of the array: redirection, takeover, reassignment of the virtual port."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lab.array.policy import Policy
from lab.checks import (
    Check,
    discovery_hides_ports,
    kernel_quiet,
    login_answered,
    moved_to,
    new_login,
    no_io_errors,
    no_lost_writes,
    one_owner_of_virtual_address,
    reached,
    redirected_at_login,
    same_connection,
    same_disk,
    served_at,
    session_survived,
    sessions_spread,
    stall_below,
)
from lab.faults.network import cable_pulled
from lab.host.host import LabHost
from lab.host.open_iscsi import OpenIscsi
from lab.run.lab import Lab
from lab.run.scenario import PolicyOf, scenario
from lab.topology.topology import ArrayTopo

TAKEOVER_BUDGET_MS = 1000.0
"""Longest stall for a moved address: TCP's first two retransmission timeouts, 200 and 400 ms, on a
busy machine. `lab bench failover` measures the actual time."""
RELOGIN_BUDGET_MS = OpenIscsi.relogin_ms
"""For a new login of a host with open-iscsi."""


def at_home(hosts: int = 1, **settings: Any) -> PolicyOf:
    """A policy that redirects the first `hosts` hosts to the home port of the virtual address, so
    that one fault hits both. `settings`: other fields of Policy."""

    def policy(topo: ArrayTopo) -> Policy:
        fixed = dict.fromkeys([*topo.initiators][:hosts], topo.storage.home.name)
        return Policy(redirect="fixed", fixed=fixed, **settings)

    return policy


def under_load(lab: Lab, which: int = 0) -> LabHost:
    """The host at place `which`, logged in and writing."""
    host = lab.host(which)
    host.login()
    host.start_writing()
    host.keeps_writing()
    return host


def lose_port(lab: Lab, name: str, host: LabHost) -> None:
    """Pull the cable of port `name`, and wait until `host` writes again."""
    lab.begin(cable_pulled(lab, name))
    host.keeps_writing()


def lose_serving_port(lab: Lab) -> tuple[LabHost, str]:
    """Kill the port that serves the first host under load, and read the host's writes back.
    Returns the host, and the address that served it."""
    h1 = under_load(lab)
    address = h1.address
    lose_port(lab, lab.array.port_of(address), h1)
    h1.stop_and_verify()
    return h1, address


def undisturbed(host: str, budget_ms: float) -> list[Check]:
    """The checks for "survives" in this catalogue, for the disk of `host`."""
    return [
        session_survived(host),
        no_io_errors(host),
        no_lost_writes(host),
        stall_below(host, budget_ms),
        one_owner_of_virtual_address(),
        kernel_quiet(),
        reached(),
    ]


@scenario()
def hidden_ports(lab: Lab) -> Iterable[Check]:
    """SendTargets at the virtual port shows hosts the virtual address only."""
    h1 = lab.host()
    h1.discover()
    return [discovery_hides_ports(h1.name, lab.array.virtual), kernel_quiet(), reached()]


@scenario()
def port_redirection(lab: Lab) -> Iterable[Check]:
    """A host logs in at the virtual port, is redirected, and does its I/O at a data port."""
    h1, virtual = lab.host(), lab.array.virtual
    h1.login()
    h1.write_and_verify()
    return [
        redirected_at_login(h1.name, virtual, to=lab.array.data_addresses()),
        served_at(h1.name, lab.array.data_addresses(), "after"),
        *undisturbed(h1.name, TAKEOVER_BUDGET_MS),
    ]


@scenario(policy=Policy(redirect="none"))
def served_at_virtual_port(lab: Lab) -> Iterable[Check]:
    """The array does not redirect: the virtual port serves the host itself."""
    h1, virtual = lab.host(), lab.array.virtual
    h1.login()
    h1.write_and_verify()
    return [
        login_answered(h1.name, virtual, "0x0000"),
        served_at(h1.name, virtual, "after"),
        *undisturbed(h1.name, TAKEOVER_BUDGET_MS),
    ]


@scenario(hosts=2, policy=lambda topo: Policy(serve=([*topo.initiators][1],)))
def mixed_serving(lab: Lab) -> Iterable[Check]:
    """One host is redirected, another is served at the virtual port, both from one disk."""
    (h1, h2), virtual = lab.some_hosts(2), lab.array.virtual
    h1.login()
    h2.login()
    h1.write_and_verify()
    h2.write_and_verify()
    return [
        redirected_at_login(h1.name, virtual, to=lab.array.data_addresses()),
        login_answered(h2.name, virtual, "0x0000"),
        served_at(h2.name, virtual, "after"),
        same_disk(h1.name, h2.name),
        *undisturbed(h1.name, TAKEOVER_BUDGET_MS),
        *undisturbed(h2.name, TAKEOVER_BUDGET_MS),
    ]


@scenario(hosts=4, topology="four_hosts", policy=Policy(front="steered"))
def load_spread(lab: Lab) -> Iterable[Check]:
    """One host more than ports: sessions per port differ by at most one."""
    hosts = [*lab.hosts.values()]
    for host in hosts:
        host.login()
    h1, names = hosts[0], [host.name for host in hosts]
    h1.write_and_verify()
    return [
        *(redirected_at_login(n, lab.array.virtual, to=lab.array.data_addresses()) for n in names),
        sessions_spread(),
        *undisturbed(h1.name, TAKEOVER_BUDGET_MS),
    ]


@scenario(ports=2, policy=Policy(mode="redirect-only"))
def port_loss(lab: Lab) -> Iterable[Check]:
    """The port with the session dies; the array only redirects the host's next login."""
    h1, lost = lose_serving_port(lab)
    left = lab.array.data_addresses() - {lost}
    return [
        redirected_at_login(h1.name, lab.array.virtual, to=lab.array.data_addresses()),
        served_at(h1.name, lost, "before"),
        served_at(h1.name, left, "after"),
        *undisturbed(h1.name, h1.initiator.relogin_ms),
    ]


@scenario(ports=2)
def port_takeover(lab: Lab) -> Iterable[Check]:
    """The port with the session dies; the array moves its address: the TCP connection lives on."""
    h1, address = lose_serving_port(lab)
    return [
        same_connection(h1.name),
        served_at(h1.name, address, "after"),
        *undisturbed(h1.name, TAKEOVER_BUDGET_MS),
    ]


def _lose_virtual_port(lab: Lab) -> tuple[LabHost, LabHost, str, set[str]]:
    """Kill the port of the virtual address under load; then another host logs in. Returns both
    hosts, the dead port, and the other ports."""
    h1, h2 = under_load(lab), lab.host(1)
    home = lab.array.port_of(lab.array.virtual)
    lose_port(lab, home, h1)
    h2.login()
    h1.stop_and_verify()
    return h1, h2, home, {port.name for port in lab.array.spec.ports} - {home}


@scenario(hosts=2, ports=2, policy=at_home())
def virtual_port_reassignment(lab: Lab) -> Iterable[Check]:
    """The port with the virtual address dies: another answers both, and new hosts can log in."""
    h1, h2, lost, others = _lose_virtual_port(lab)
    virtual = lab.array.virtual
    return [
        moved_to(virtual, others),
        moved_to(lab.array.address_of(lost), others),
        new_login(h2.name, virtual),
        redirected_at_login(h2.name, virtual, to=lab.array.data_addresses()),
        *undisturbed(h1.name, TAKEOVER_BUDGET_MS),
    ]


@scenario(hosts=2, ports=2, policy=Policy(redirect="none"))
def virtual_port_reassignment_serving(lab: Lab) -> Iterable[Check]:
    """The virtual port serves hosts and dies: another port takes over, and sessions survive."""
    h1, h2, _, others = _lose_virtual_port(lab)
    virtual = lab.array.virtual
    return [
        served_at(h1.name, virtual, "before"),
        served_at(h1.name, virtual, "after"),
        same_connection(h1.name),
        moved_to(virtual, others),
        new_login(h2.name, virtual),
        *undisturbed(h1.name, TAKEOVER_BUDGET_MS),
    ]
