"""Dual-head arrays: a kernel dies with all it has, and another takes its place."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager

from lab.array.array import Policy
from lab.checks import (
    Check,
    fenced_before_moved,
    moved_to,
    new_login,
    served_at,
)
from lab.checks.address import owners_at
from lab.faults.heads import head_powered_off
from lab.faults.heads import head_unheard as unheard
from lab.faults.network import cable_pulled, controller_killed
from lab.host.host import LabHost
from lab.run.lab import Lab
from lab.run.scenario import scenario
from lab.scenarios.promises import undisturbed
from lab.waiting import wait_for

RELOGIN_BUDGET_MS = 8_000.0
"""Detection, a power cut and a move: 1.1 s; Time2Wait 2 s; and one more try after 3 s."""
_POLICY = Policy(redirect="fixed", fixed={"h1": "a1a"})


def _moved(lab: Lab) -> None:
    """Wait until the other head has the address that the host is served at."""
    address = lab.array.address_of("a1a")
    wait_for(
        f"{address} to move to a1b",
        lambda: owners_at(lab.timeline, address),
        until=lambda owners: "a1b" in owners,
        seconds=10.0,
    )


def _survives(lab: Lab) -> list[Check]:
    return [*_taken_over(lab), fenced_before_moved()]


def _taken_over(lab: Lab) -> list[Check]:
    virtual, data = lab.array.virtual, lab.array.address_of("a1a")
    return [
        moved_to(virtual, "a1b"),
        moved_to(data, "a1b"),
        new_login("h1", virtual),
        served_at("h1", data, "after"),
        *undisturbed("h1", RELOGIN_BUDGET_MS),
    ]


def _lose_head(lab: Lab, *faults: AbstractContextManager[None]) -> list[Check]:
    """Under the load of h1 `faults` befall the head that serves it."""
    h1 = _under_load(lab)
    for fault in faults:
        lab.begin(fault)
    h1.keeps_writing()
    h1.stop_and_verify()
    return _survives(lab)


def _under_load(lab: Lab) -> LabHost:
    h1 = lab.host("h1")
    h1.login()
    h1.start_writing()
    h1.keeps_writing()
    return h1


@scenario(topology="two_heads", policy=_POLICY, targets=("lio",))
def head_power_cut(lab: Lab) -> Iterable[Check]:
    """The head with the session loses its power: the other one answers, and the host is back."""
    return _lose_head(lab, head_powered_off(lab, "a1a"))


@scenario(topology="two_heads", policy=_POLICY, targets=("lio",))
def head_and_controller_lost(lab: Lab) -> Iterable[Check]:
    """The controller is killed as a head loses its power: the next one finds it dark, and moves."""
    return _lose_head(lab, controller_killed(lab), head_powered_off(lab, "a1a"))


@scenario(topology="two_heads", policy=_POLICY, targets=("lio",))
def head_unheard(lab: Lab) -> Iterable[Check]:
    """The controller does not hear a head that goes on serving: it is cut off before the move."""
    h1 = _under_load(lab)
    lab.begin(unheard(lab, "a1a"))
    _moved(lab)
    h1.keeps_writing()
    h1.stop_and_verify()
    return _survives(lab)


@scenario(topology="two_heads", policy=_POLICY, targets=("lio",))
def head_port_lost(lab: Lab) -> Iterable[Check]:
    """The data port of a head dies: it gives its addresses up, the other one takes them."""
    h1 = _under_load(lab)
    lab.begin(cable_pulled(lab, "a1a"))
    _moved(lab)
    h1.keeps_writing()
    h1.stop_and_verify()
    return _taken_over(lab)


@scenario(
    topology="two_heads",
    policy=Policy(redirect="fixed", fixed={"h1": "a1a"}, fencing=False),
    targets=("lio",),
    listed=False,
)
def control_no_fencing(lab: Lab) -> Iterable[Check]:
    """head-unheard with fencing switched off: both heads have the addresses, and both write."""
    h1 = _under_load(lab)
    lab.begin(unheard(lab, "a1a"))
    _moved(lab)
    lab.observe_for(0.5)
    h1.stop_and_verify()
    return _survives(lab)
