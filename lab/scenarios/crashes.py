"""Crashes and restarts of the controller, the target, the front and a host."""

from __future__ import annotations

from collections.abc import Iterable

from lab.array.policy import Policy
from lab.checks import (
    Check,
    controller_restarted,
    front_restarted,
    moved_to,
    new_login,
    no_lost_writes,
    one_owner_of_virtual_address,
    same_connection,
    same_disk,
    served_at,
    stayed_logged_in,
)
from lab.checks.address import owners_at
from lab.faults import network as faults
from lab.host.host import LabHost
from lab.run.control import fails
from lab.run.lab import Lab
from lab.run.scenario import scenario
from lab.scenarios.promises import (
    RELOGIN_BUDGET_MS,
    TAKEOVER_BUDGET_MS,
    at_home,
    under_load,
    undisturbed,
)
from lab.waiting import wait_for

RESTART_BUDGET_MS = 5000.0
"""For a move that a new controller makes or finishes: its start, and TCP's retransmission timeouts,
which double each time."""
TARGET_AWAY_S = 1.0
HEAVY_S = 12
NOP_S = 2
"""NOP-Out interval and timeout in seconds, short so that the host soon drops a session."""
_PATIENT = {"libiscsi": "the interval of its NOP-Outs cannot be set"}

MOVE_LINES = 4
"""Fewest `ip` lines for a move of two addresses: delete and add each of them."""
MOST_LINES = 60


def _died(lab: Lab) -> int:
    return sum(e["what"] == "died" for e in lab.timeline.events("controller"))


@scenario(ports=2, policy=at_home(hold_s=0.3))
def controller_killed(lab: Lab) -> Iterable[Check]:
    """The controller is killed at each step of a move: no address is ever on two ports.

    A step is one line for `ip`. The restarted controller finds the state and continues.
    """
    home, other = (port.name for port in lab.array.spec.ports[:2])
    h1, virtual, address = under_load(lab), lab.array.virtual, lab.array.address_of(home)
    for line in range(1, MOST_LINES):
        deaths = _died(lab)
        lab.begin(faults.controller_killed(lab, next_dies_at=line))
        _wait_for_controller(lab, deaths)
        if _died(lab) > deaths + 1:
            continue  # it died during its start
        pulled = lab.begin(faults.cable_pulled(lab, home))
        _wait_for_addresses(lab, other)
        lab.end(pulled)
        _wait_for_addresses(lab, home)
        h1.keeps_writing(20)
        if _died(lab) == deaths + 1:
            break  # it survived both moves
    deaths = _died(lab)
    lab.begin(faults.controller_killed(lab))  # a death may still be pending: clear it
    _wait_for_controller(lab, deaths)
    h1.stop_and_verify()
    return [
        controller_restarted(line, moving=2 * MOVE_LINES),
        one_owner_of_virtual_address(address),
        moved_to(virtual, home),
        same_connection(h1.name),
        *undisturbed(h1.name, RESTART_BUDGET_MS),
    ]


def _wait_for_controller(lab: Lab, deaths: int) -> None:
    """Wait until the controller has died more than `deaths` times, and settled since."""
    wait_for(
        "the controller to settle",
        lambda: [e["what"] for e in lab.timeline.events("controller")],
        until=lambda said: said.count("died") > deaths and "settled" in said[_last(said, "died") :],
        seconds=10.0,
    )


def _last(said: list[str], what: str) -> int:
    return len(said) - said[::-1].index(what)


def _wait_for_addresses(lab: Lab, port: str) -> None:
    addresses = (lab.array.virtual, lab.array.address_of(lab.array.spec.home.name))
    wait_for(
        f"{' and '.join(addresses)} to be on {port}",
        lambda: [owners_at(lab.timeline, address) for address in addresses],
        until=lambda owners: all(one == {port} for one in owners),
        seconds=10.0,
    )


@scenario(needs=("kill",))
def target_killed(lab: Lab) -> Iterable[Check]:
    """The target's process is killed and restarted: hosts come back via the virtual port.

    A target in a kernel dies only with its kernel: see array-power-cut.
    """
    h1 = under_load(lab)
    killed = lab.begin(faults.target_killed(lab))
    lab.observe_for(TARGET_AWAY_S)
    lab.end(killed)
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        new_login(h1.name, lab.array.virtual),
        served_at(h1.name, lab.array.data_addresses(), "after"),
        *undisturbed(h1.name, TARGET_AWAY_S * 1000 + h1.initiator.relogin_ms),
    ]


def _kill_front(lab: Lab) -> list[Check]:
    h1 = under_load(lab)
    lab.begin(faults.front_killed(lab))
    wait_for(
        "the virtual port to be started again",
        lambda: [e["what"] for e in lab.timeline.events("virtual-port")],
        until=lambda said: "restarted" in said,
        seconds=10.0,
    )
    h2 = lab.host(1)
    h2.login()
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        front_restarted(),
        stayed_logged_in(h1.name),
        same_connection(h1.name),
        new_login(h2.name, lab.array.virtual),
        *undisturbed(h1.name, TAKEOVER_BUDGET_MS),
    ]


@scenario(hosts=2)
def virtual_port_killed(lab: Lab) -> Iterable[Check]:
    """The front is killed and restarted: sessions go on, new logins soon work again."""
    return _kill_front(lab)


@scenario(hosts=2, policy=Policy(front="steered"), needs=("redirects",))
def virtual_port_killed_steered(lab: Lab) -> Iterable[Check]:
    """The steered front is killed and restarted: sessions go on, new logins soon work again."""
    return _kill_front(lab)


@scenario(
    hosts=2,
    not_for={"libiscsi": "its host has no kernel of its own to cut the power of"},
)
def host_power_cut(lab: Lab) -> Iterable[Check]:
    """A host loses power, boots, logs in and finds its data; another host is not disturbed.

    Both write to one disk, each to its own blocks.
    """
    h1, h2 = under_load(lab), under_load(lab, 1)
    off = lab.begin(faults.host_powered_off(lab, h2.name))
    h1.keeps_writing()
    lab.end(off)
    h2.login()
    h2.verify_after_power_cut()
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        new_login(h2.name, lab.array.virtual),
        same_disk(h1.name, h2.name),
        no_lost_writes(h2.name),
        stayed_logged_in(h1.name),
        same_connection(h1.name),
        *undisturbed(h1.name, TAKEOVER_BUDGET_MS),
    ]


def _impatient(lab: Lab) -> LabHost:
    """A host under load that drops its session if a NOP-Out is not answered within NOP_S."""
    h1 = lab.host()
    for name in ("interval", "timeout"):
        h1.open_iscsi.configure(f"node.conn[0].timeo.noop_out_{name}", str(NOP_S))
    return under_load(lab)


@scenario(not_for=_PATIENT)
def busy_nop(lab: Lab) -> Iterable[Check]:
    """Under a heavy load the host's NOP-Outs do not time out: its session stays."""
    h1 = _impatient(lab)
    h1.write_heavily(HEAVY_S)
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        stayed_logged_in(h1.name),
        same_connection(h1.name),
        *undisturbed(h1.name, NOP_S * 1000),
    ]


@scenario(
    policy=Policy(controller=False),
    not_for=_PATIENT,
    control=fails("stayed_logged_in", along={"same_connection": "a new login is a new connection"}),
)
def control_nop_timeout(lab: Lab) -> Iterable[Check]:
    """busy-nop with the host's cable pulled for a while: its NOP-Outs time out."""
    h1 = _impatient(lab)
    pulled = lab.begin(faults.cable_pulled(lab, h1.name))
    lab.observe_for(2 * NOP_S + 2.0)
    lab.end(pulled)
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        stayed_logged_in(h1.name),
        same_connection(h1.name),
        *undisturbed(h1.name, RELOGIN_BUDGET_MS),
    ]
