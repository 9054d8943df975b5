"""What the storage system promises: redirection, takeover, reassignment of the virtual port."""

from __future__ import annotations

from collections.abc import Iterable

from lab.array.array import Policy
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
from lab.host.open_iscsi import OpenIscsi
from lab.run.lab import Lab
from lab.run.scenario import scenario

TAKEOVER_BUDGET_MS = 1000.0
"""For a moved address: TCP's first two retransmission timeouts, 200 and 400 ms, on a busy machine.
How fast it is, `lab bench failover` says; this is what no run may exceed."""
RELOGIN_BUDGET_MS = OpenIscsi.relogin_ms
"""For a new login of a host with open-iscsi."""


def undisturbed(host: str, budget_ms: float) -> list[Check]:
    """What "survives" means in this catalogue, for the disk of `host`."""
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
    """A host that asks the virtual port for portals is told the virtual address only."""
    lab.host("h1").discover()
    return [discovery_hides_ports("h1", lab.array.virtual), kernel_quiet(), reached()]


@scenario()
def port_redirection(lab: Lab) -> Iterable[Check]:
    """A host logs in at the virtual port, is redirected, and does its I/O at a data port."""
    h1, virtual = lab.host("h1"), lab.array.virtual
    h1.login()
    h1.write_and_verify()
    return [
        redirected_at_login("h1", virtual, to=lab.array.data_addresses()),
        served_at("h1", lab.array.data_addresses(), "after"),
        *undisturbed("h1", TAKEOVER_BUDGET_MS),
    ]


@scenario(policy=Policy(redirect="none"))
def served_at_virtual_port(lab: Lab) -> Iterable[Check]:
    """The array does not redirect: the virtual port carries the traffic itself."""
    h1, virtual = lab.host("h1"), lab.array.virtual
    h1.login()
    h1.write_and_verify()
    return [
        login_answered("h1", virtual, "0x0000"),
        served_at("h1", virtual, "after"),
        *undisturbed("h1", TAKEOVER_BUDGET_MS),
    ]


@scenario(hosts=("h1", "h2"), policy=Policy(serve=("h2",)))
def mixed_serving(lab: Lab) -> Iterable[Check]:
    """One host is redirected, another served at the virtual port: from the same disk."""
    h1, h2, virtual = lab.host("h1"), lab.host("h2"), lab.array.virtual
    h1.login()
    h2.login()
    h1.write_and_verify()
    h2.write_and_verify()
    return [
        redirected_at_login("h1", virtual, to=lab.array.data_addresses()),
        login_answered("h2", virtual, "0x0000"),
        served_at("h2", virtual, "after"),
        same_disk("h1", "h2"),
        *undisturbed("h1", TAKEOVER_BUDGET_MS),
        *undisturbed("h2", TAKEOVER_BUDGET_MS),
    ]


@scenario(hosts=("h1", "h2", "h3", "h4"), topology="four_hosts", policy=Policy(front="steered"))
def load_spread(lab: Lab) -> Iterable[Check]:
    """As many hosts as ports, then one more: sessions per port differ by at most one."""
    names = [*lab.hosts]
    for name in names:
        lab.host(name).login()
    lab.host("h1").write_and_verify()
    return [
        *(redirected_at_login(n, lab.array.virtual, to=lab.array.data_addresses()) for n in names),
        sessions_spread(),
        *undisturbed("h1", TAKEOVER_BUDGET_MS),
    ]


@scenario(policy=Policy(mode="redirect-only"))
def port_loss(lab: Lab) -> Iterable[Check]:
    """The port with the session goes dark; the array only redirects the host's next login."""
    h1 = lab.host("h1")
    lost = h1.login().address
    h1.start_writing()
    h1.keeps_writing()
    lab.begin(cable_pulled(lab, lab.array.port_of(lost)))
    h1.keeps_writing()
    h1.stop_and_verify()
    left = lab.array.data_addresses() - {lost}
    return [
        redirected_at_login("h1", lab.array.virtual, to=lab.array.data_addresses()),
        served_at("h1", lost, "before"),
        served_at("h1", left, "after"),
        *undisturbed("h1", h1.initiator.relogin_ms),
    ]


@scenario()
def port_takeover(lab: Lab) -> Iterable[Check]:
    """The port with the session dies; the array moves its address: the TCP connection lives on."""
    h1 = lab.host("h1")
    address = h1.login().address
    h1.start_writing()
    h1.keeps_writing()
    lab.begin(cable_pulled(lab, lab.array.port_of(address)))
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        same_connection("h1"),
        served_at("h1", address, "after"),
        *undisturbed("h1", TAKEOVER_BUDGET_MS),
    ]


def _lose_virtual_port(lab: Lab) -> tuple[str, set[str]]:
    """Under the load of h1 the virtual address's port dies, and h2 logs in: it, and the others."""
    h1, h2 = lab.host("h1"), lab.host("h2")
    h1.login()
    h1.start_writing()
    h1.keeps_writing()
    home = lab.array.port_of(lab.array.virtual)
    lab.begin(cable_pulled(lab, home))
    h1.keeps_writing()
    h2.login()
    h1.stop_and_verify()
    return home, {port.name for port in lab.array.spec.ports} - {home}


@scenario(hosts=("h1", "h2"), policy=Policy(redirect="fixed", fixed={"h1": "p1"}))
def virtual_port_reassignment(lab: Lab) -> Iterable[Check]:
    """The port with the virtual address dies: another answers both, and new hosts can log in."""
    lost, others = _lose_virtual_port(lab)
    virtual = lab.array.virtual
    return [
        moved_to(virtual, others),
        moved_to(lab.array.address_of(lost), others),
        new_login("h2", virtual),
        redirected_at_login("h2", virtual, to=lab.array.data_addresses()),
        *undisturbed("h1", TAKEOVER_BUDGET_MS),
    ]


@scenario(hosts=("h1", "h2"), policy=Policy(redirect="none"))
def virtual_port_reassignment_serving(lab: Lab) -> Iterable[Check]:
    """The same while hosts are served at the virtual address itself: their sessions live on."""
    _, others = _lose_virtual_port(lab)
    virtual = lab.array.virtual
    return [
        served_at("h1", virtual, "before"),
        served_at("h1", virtual, "after"),
        same_connection("h1"),
        moved_to(virtual, others),
        new_login("h2", virtual),
        *undisturbed("h1", TAKEOVER_BUDGET_MS),
    ]
