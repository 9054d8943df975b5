"""Power cuts: what was acknowledged as stable is there when the power is back."""

from __future__ import annotations

from collections.abc import Iterable

from lab.array.policy import Policy
from lab.checks import Check, new_login, served_at
from lab.faults.network import array_powered_off
from lab.run.lab import Lab
from lab.run.scenario import scenario
from lab.scenarios.promises import undisturbed

BOOT_BUDGET_MS = 15_000.0
"""For an array that boots, loads LIO and starts its controller, with a host that waits for it."""
_NEEDS = ("power-cut", "stores")
DIRTY_WRITES = 1500
"""Enough for a cache to hold what is not on the disk yet, and too few to fill it."""


def _cut_under_load(lab: Lab) -> list[Check]:
    """The host writes with O_DSYNC, so that each acknowledged write must outlast the cut."""
    h1, virtual = lab.host(), lab.array.virtual
    h1.login()
    h1.start_writing(durable=True)
    h1.keeps_writing(DIRTY_WRITES)
    off = lab.begin(array_powered_off(lab))
    lab.end(off)
    h1.keeps_writing(100)
    h1.stop_and_verify()
    return [
        new_login(h1.name, virtual),
        served_at(h1.name, lab.array.data_addresses(), "after"),
        *undisturbed(h1.name, h1.initiator.relogin_ms + BOOT_BUDGET_MS),
    ]


@scenario(policy=Policy(store="file-write-back"), needs=_NEEDS)
def array_power_cut(lab: Lab) -> Iterable[Check]:
    """The array loses its power under load, with a cache, and boots again: nothing stable is lost.

    Its disks are LIO's fileio, buffered in the kernel that is cut, and say that they have a cache.
    """
    return _cut_under_load(lab)


@scenario(policy=Policy(store="file-write-through"), needs=_NEEDS)
def array_power_cut_write_through(lab: Lab) -> Iterable[Check]:
    """The array, with disks that have no cache, loses its power and boots: nothing is lost."""
    return _cut_under_load(lab)


@scenario(policy=Policy(store="file-lying"), needs=_NEEDS, listed=False)
def control_lying_disk(lab: Lab) -> Iterable[Check]:
    """The same with disks that have a cache and deny it: they acknowledge what is not stable."""
    return _cut_under_load(lab)
