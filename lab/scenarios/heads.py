"""Dual-head arrays: one head dies or is cut off, and the other one takes over."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager

from lab.checks import (
    Check,
    fenced_before_moved,
    moved_to,
    new_login,
    served_at,
)
from lab.checks.address import owners_at
from lab.faults.heads import head_powered_off, power_switch_deaf
from lab.faults.heads import head_unheard as unheard
from lab.faults.network import cable_pulled, controller_killed
from lab.run.control import fails
from lab.run.lab import Lab
from lab.run.scenario import scenario
from lab.scenarios.promises import at_home, under_load, undisturbed
from lab.waiting import wait_for

RELOGIN_BUDGET_MS = 8_000.0
"""Detection, power cut and move 1.1 s; Time2Wait 2 s; one more login attempt after 3 s."""
LEASE_BUDGET_MS = RELOGIN_BUDGET_MS + 3_000.0
"""The lease and its margin, 3 s, instead of a power cut."""
POLICY = at_home()


def _heads(lab: Lab) -> tuple[str, str]:
    """The head that serves the host, and the other one. A port has the name of its head."""
    home, other = (port.name for port in lab.array.spec.ports[:2])
    return home, other


def _moved(lab: Lab) -> None:
    """Wait until the other head has the address that the host is served at."""
    home, other = _heads(lab)
    address = lab.array.address_of(home)
    wait_for(
        f"{address} to move to {other}",
        lambda: owners_at(lab.timeline, address),
        until=lambda owners: other in owners,
        seconds=10.0,
    )


def _survives(lab: Lab) -> list[Check]:
    return [*_taken_over(lab), fenced_before_moved()]


def _taken_over(lab: Lab, budget_ms: float = RELOGIN_BUDGET_MS) -> list[Check]:
    home, other = _heads(lab)
    h1, virtual, data = lab.host(), lab.array.virtual, lab.array.address_of(home)
    return [
        moved_to(virtual, other),
        moved_to(data, other),
        new_login(h1.name, virtual),
        served_at(h1.name, data, "after"),
        *undisturbed(h1.name, budget_ms),
    ]


def lose_head(lab: Lab, *faults: AbstractContextManager[None]) -> list[Check]:
    """Apply `faults` to the head that serves the host, under load."""
    h1 = under_load(lab)
    for fault in faults:
        lab.begin(fault)
    h1.keeps_writing()
    h1.stop_and_verify()
    return _survives(lab)


@scenario(topology="two_heads", policy=POLICY, needs=("heads",))
def head_power_cut(lab: Lab) -> Iterable[Check]:
    """The head with the session loses power: the other head takes over, the host logs in there."""
    return lose_head(lab, head_powered_off(lab, _heads(lab)[0]))


@scenario(topology="two_heads", policy=POLICY, needs=("heads",))
def head_and_controller_lost(lab: Lab) -> Iterable[Check]:
    """Controller and head die together: the controller started next moves the addresses."""
    return lose_head(lab, controller_killed(lab), head_powered_off(lab, _heads(lab)[0]))


@scenario(topology="two_heads", policy=POLICY, needs=("heads",))
def head_unheard(lab: Lab) -> Iterable[Check]:
    """The controller loses contact with a head that still serves: it is fenced before the move."""
    h1 = under_load(lab)
    lab.begin(unheard(lab, _heads(lab)[0]))
    _moved(lab)
    h1.keeps_writing()
    h1.stop_and_verify()
    return _survives(lab)


@scenario(topology="two_heads", policy=POLICY, needs=("heads",))
def head_port_lost(lab: Lab) -> Iterable[Check]:
    """The data port of a head dies: its addresses move to the other head."""
    h1 = under_load(lab)
    lab.begin(cable_pulled(lab, _heads(lab)[0]))
    _moved(lab)
    h1.keeps_writing()
    h1.stop_and_verify()
    return _taken_over(lab)


@scenario(
    topology="two_heads",
    policy=at_home(fencing=False, lease=False),
    needs=("heads",),
    control=fails(
        "fenced_before_moved",
        along=dict.fromkeys(
            ("one_owner_of_virtual_address", "moved_to"),
            "a head that is not fenced keeps its addresses",
        ),
        quick=True,
    ),
)
def control_no_fencing(lab: Lab) -> Iterable[Check]:
    """head-unheard with fencing switched off: both heads have the addresses, and both write."""
    h1 = under_load(lab)
    lab.begin(unheard(lab, _heads(lab)[0]))
    _moved(lab)
    lab.observe_for(0.5)
    h1.stop_and_verify()
    return _survives(lab)


def _cut_off(lab: Lab) -> None:
    """Cut the head that serves the host off from a controller that cannot cut its power."""
    h1 = under_load(lab)
    lab.begin(power_switch_deaf(lab))
    lab.begin(unheard(lab, _heads(lab)[0]))
    _moved(lab)
    h1.keeps_writing()
    h1.stop_and_verify()


@scenario(topology="two_heads", policy=POLICY, needs=("heads",))
def head_cut_off(lab: Lab) -> Iterable[Check]:
    """The controller loses contact with a head and cannot fence it: the head gives up by itself."""
    _cut_off(lab)
    return _taken_over(lab, LEASE_BUDGET_MS)


@scenario(
    topology="two_heads",
    policy=at_home(lease=False),
    needs=("heads",),
    control=fails("one_owner_of_virtual_address"),
)
def control_no_lease(lab: Lab) -> Iterable[Check]:
    """head-cut-off with a head that keeps its addresses for ever: both heads have them."""
    _cut_off(lab)
    return undisturbed(lab.host().name, LEASE_BUDGET_MS)
