"""Negative controls of what hosts see: their sessions, their logins, their kernels."""

from __future__ import annotations

from collections.abc import Iterable

from lab.array.policy import Policy
from lab.checks import (
    Check,
    discovery_hides_ports,
    kernel_quiet,
    new_login,
    reached,
    sessions_spread,
)
from lab.faults.network import cable_pulled
from lab.host.attempts import try_login
from lab.run.control import fails
from lab.run.lab import Lab
from lab.run.scenario import PolicyOf, scenario
from lab.scenarios.identity import NEEDS_KERNEL
from lab.scenarios.promises import (
    TAKEOVER_BUDGET_MS,
    at_home,
    served_at_virtual_port,
    under_load,
    undisturbed,
)
from lab.topology.topology import ArrayTopo
from lab.waiting import wait_for


def away_from_home() -> PolicyOf:
    """No controller. The first host is served at another port than that of the virtual address."""

    def policy(topo: ArrayTopo) -> Policy:
        fixed = {next(iter(topo.initiators)): topo.storage.ports[1].name}
        return Policy(redirect="fixed", fixed=fixed, controller=False)

    return policy


@scenario(control=fails("discovery_hides_ports", quick=True))
def control_ports_shown(lab: Lab) -> Iterable[Check]:
    """hidden-ports with an array that answers discovery at a data port, and shows it."""
    h1 = lab.host()
    h1.initiator.discover(lab.array.address_of(lab.array.spec.home.name))
    return [discovery_hides_ports(h1.name, lab.array.virtual), kernel_quiet(), reached()]


@scenario(
    control=fails(
        "login_answered", along={"served_at": "a redirected host is not at the virtual port"},
        quick=True,
    )
)  # fmt: skip
def control_not_served(lab: Lab) -> Iterable[Check]:
    """served-at-virtual-port with an array that redirects."""
    return served_at_virtual_port(lab)


@scenario(hosts=2, ports=2, policy=at_home(2), control=fails("sessions_spread"))
def control_not_spread(lab: Lab) -> Iterable[Check]:
    """load-spread with an array that sends all hosts to one port."""
    h1, h2 = lab.some_hosts(2)
    h1.login()
    h2.login()
    h1.write_and_verify()
    return [
        sessions_spread({port.name for port in lab.array.spec.ports[:2]}),
        *undisturbed(h1.name, TAKEOVER_BUDGET_MS),
    ]


@scenario(
    hosts=2, ports=2, policy=away_from_home(), not_for=NEEDS_KERNEL, control=fails("new_login")
)
def control_no_new_login(lab: Lab) -> Iterable[Check]:
    """virtual-port-reassignment without a controller: a new host finds no virtual port."""
    h1, h2 = under_load(lab), lab.host(1)
    lab.begin(cable_pulled(lab, lab.array.spec.home.name))
    try_login(h2)
    h1.keeps_writing()
    h1.stop_and_verify()
    return [new_login(h2.name, lab.array.virtual), *undisturbed(h1.name, TAKEOVER_BUDGET_MS)]


@scenario(not_for=NEEDS_KERNEL, control=fails("session_survived"))
def control_session_down(lab: Lab) -> Iterable[Check]:
    """The host's cable is out when its session is recorded at the end."""
    h1 = lab.host()
    for name in ("interval", "timeout"):
        h1.open_iscsi.configure(f"node.conn[0].timeo.noop_out_{name}", "1")
    under_load(lab)
    h1.writer.stop()
    pulled = lab.begin(cable_pulled(lab, h1.name))
    wait_for(
        f"{h1.name} to lose its session",
        lambda: [session.state for session in h1.initiator.sessions()],
        until=lambda states: "LOGGED_IN" not in states,
        seconds=15.0,
        every=0.1,
    )
    h1.session("after")
    lab.end(pulled)
    h1.verify()
    return undisturbed(h1.name, TAKEOVER_BUDGET_MS)


@scenario(not_for=NEEDS_KERNEL, control=fails("kernel_quiet", quick=True))
def control_kernel_trouble(lab: Lab) -> Iterable[Check]:
    """The kernel of the host prints a warning on its console, while the host writes."""
    h1 = under_load(lab)
    h1.runner.run(["sh", "-c", "echo '<1>WARNING: by hand' > /dev/kmsg"])
    h1.keeps_writing()
    h1.stop_and_verify()
    return undisturbed(h1.name, TAKEOVER_BUDGET_MS)
