"""Power cuts of the array: writes acknowledged as stable must survive."""

from __future__ import annotations

from collections.abc import Iterable

from lab.array.policy import Policy
from lab.checks import Check, new_login, served_at
from lab.faults.network import array_powered_off
from lab.run.control import fails
from lab.run.lab import Lab
from lab.run.scenario import scenario
from lab.scenarios.promises import undisturbed

BOOT_BUDGET_MS = 15_000.0
"""For the array to boot, load LIO and start its controller, while a host waits."""
_NEEDS = ("power-cut", "stores")
DIRTY_WRITES = 1500
"""Enough that a cache holds unwritten data, and too few to fill it."""


def _cut_under_load(lab: Lab) -> list[Check]:
    """The host writes with O_DSYNC, so each acknowledged write must survive the cut."""
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
    """The array, with a write cache, loses power under load and boots: no stable write is lost.

    Its disks are LIO's fileio, buffered in the array's kernel; they report a write cache.
    """
    return _cut_under_load(lab)


@scenario(policy=Policy(store="file-write-through"), needs=_NEEDS)
def array_power_cut_write_through(lab: Lab) -> Iterable[Check]:
    """The array, without a write cache, loses power under load and boots: no write is lost."""
    return _cut_under_load(lab)


@scenario(policy=Policy(store="file-lying"), needs=_NEEDS, control=fails("no_lost_writes"))
def control_lying_disk(lab: Lab) -> Iterable[Check]:
    """array-power-cut with disks that hide their cache: they acknowledge unstable writes."""
    return _cut_under_load(lab)
