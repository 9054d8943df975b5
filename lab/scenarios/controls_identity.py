"""Negative controls of what a disk keeps: its identity and its persistent reservation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from lab.array.policy import Policy
from lab.checks import (
    Check,
    kernel_quiet,
    no_lost_writes,
    reached,
    recovered_after_errors,
    same_disk,
    same_identity,
    session_survived,
    writes_allowed,
)
from lab.faults.network import cable_pulled, target_killed
from lab.host.host import LabHost
from lab.host.scsi import (
    REGISTRANTS_ONLY,
    record_identity,
    register,
    release,
    reserve,
    try_to_write,
)
from lab.run.control import fails
from lab.run.lab import Lab
from lab.run.scenario import scenario
from lab.scenarios.identity import (
    KEY,
    NEEDS_KERNEL,
    finish,
    kept,
    look,
    notice_soon,
    reserved,
)
from lab.scenarios.promises import (
    RELOGIN_BUDGET_MS,
    TAKEOVER_BUDGET_MS,
    under_load,
    undisturbed,
)
from lab.waiting import wait_for
from targets.base import LogicalUnit

OTHER_KEY = 0xB2
"""Reservation key of the second host."""


@scenario(
    hosts=2,
    ports=2,
    policy=Policy(mode="redirect-only"),
    needs=("reservations-end-with-session",),
    not_for=NEEDS_KERNEL,
    control=fails(
        "writes_allowed", along={"no_io_errors": "the writer is locked out of the disk as well"}
    ),
)
def control_reservation_orphaned(lab: Lab) -> Iterable[Check]:
    """A reservation is tied to a session: after a new login it locks its own host out."""
    notice_soon(lab.host())
    h1 = reserved(lab)
    try_to_write(h1, "before")
    lost = h1.address
    lab.begin(cable_pulled(lab, lab.array.port_of(lost)))
    wait_for(
        f"{h1.name} to be back at another port",
        lambda: [(s.state, s.address) for s in h1.initiator.sessions()],
        until=lambda seen: seen[0][0] == "LOGGED_IN" and seen[0][1] not in ("", lost),
        seconds=RELOGIN_BUDGET_MS / 1000,
        every=0.2,
    )
    h1.stop_and_verify()
    look(lab, "after")
    try_to_write(h1, "after")
    lab.host(1).session("after")
    return [writes_allowed(h1.name), *kept(lab, RELOGIN_BUDGET_MS)]


@scenario(
    hosts=2,
    needs=("kill",),
    not_for=NEEDS_KERNEL,
    control=fails("reservation_unchanged", "writes_refused"),
)
def control_reservation_forgotten(lab: Lab) -> Iterable[Check]:
    """A target keeps reservations in memory: after a kill and restart they are gone."""
    reserved(lab)
    lab.end(lab.begin(target_killed(lab)))
    return finish(lab, RELOGIN_BUDGET_MS)


@scenario(hosts=2, not_for=NEEDS_KERNEL, control=fails("reservation_unchanged", quick=True))
def control_key_added(lab: Lab) -> Iterable[Check]:
    """The second host registers a key at the reserved disk."""
    reserved(lab)
    register(lab.host(1), OTHER_KEY)
    return finish(lab, TAKEOVER_BUDGET_MS)


@scenario(hosts=2, not_for=NEEDS_KERNEL, control=fails("writes_refused"))
def control_reservation_too_weak(lab: Lab) -> Iterable[Check]:
    """The reservation lets every registered host write, and the second host is registered."""
    h1, h2 = lab.some_hosts(2)
    for host in (h1, h2):
        host.login()
    h2.session("before")
    reserve(h1, KEY, kind=REGISTRANTS_ONLY)
    register(h2, OTHER_KEY)
    h1.start_writing()
    h1.keeps_writing()
    look(lab, "before")
    return finish(lab, TAKEOVER_BUDGET_MS)


@scenario(hosts=2, not_for=NEEDS_KERNEL, control=fails("writes_allowed"))
def control_locked_out(lab: Lab) -> Iterable[Check]:
    """A host may not write, because another host holds the reservation."""
    h1, h2 = lab.some_hosts(2)
    h1.login()
    h1.session("before")
    h2.login()
    reserve(h2, OTHER_KEY)
    try_to_write(h1, "reserved")
    h1.session("after")
    return [writes_allowed(h1.name), session_survived(h1.name), kernel_quiet(), reached()]


def _locked_out_under_load(lab: Lab) -> LabHost:
    """The second host reserves the disk while the first one writes: its writes fail."""
    h1, h2 = under_load(lab), lab.host(1)
    h2.login()
    reserve(h2, OTHER_KEY)
    wait_for(
        f"a write of {h1.name} to fail",
        lambda: [e for e in lab.timeline.events("io", h1.name) if e["status"] != "ok"],
        seconds=10.0,
    )
    return h1


@scenario(hosts=2, not_for=NEEDS_KERNEL, control=fails("no_io_errors"))
def control_io_errors(lab: Lab) -> Iterable[Check]:
    """Another host's reservation makes writes fail for a moment."""
    h1 = _locked_out_under_load(lab)
    release(lab.host(1), OTHER_KEY)
    h1.keeps_writing()
    h1.stop_and_verify()
    return undisturbed(h1.name, TAKEOVER_BUDGET_MS)


@scenario(hosts=2, not_for=NEEDS_KERNEL, control=fails("recovered_after_errors"))
def control_not_recovered(lab: Lab) -> Iterable[Check]:
    """Another host's reservation makes writes fail, and is never released."""
    h1 = _locked_out_under_load(lab)
    h1.stop_and_verify()
    return [
        recovered_after_errors(h1.name, 100),
        session_survived(h1.name),
        no_lost_writes(h1.name),
        kernel_quiet(),
        reached(),
    ]


def _rename_disks(lab: Lab, change: Callable[[LogicalUnit], LogicalUnit]) -> None:
    """Restart the target, with its LUNs as `change` makes them."""
    engine = lab.array.engine
    lab.timeline.add(lab.array.spec.name, "fault", name="renamed-disks", phase="begin")
    engine.stop()
    engine.start()
    for target in lab.array.targets:
        engine.create(replace(target, luns=tuple(map(change, target.luns))))
    for address in sorted(lab.array.data_addresses()):
        engine.expose(address)


@scenario(needs=("kill",), not_for=NEEDS_KERNEL, control=fails("same_identity"))
def control_identity_changed(lab: Lab) -> Iterable[Check]:
    """The target restarts and serves the same disk under another SCSI ID."""
    h1 = under_load(lab)
    record_identity(h1, "before")
    _rename_disks(lab, lambda lun: replace(lun, scsi_id=f"7{lun.scsi_id[1:]}"))
    h1.keeps_writing()
    h1.stop_and_verify()
    record_identity(h1, "after")
    return [same_identity(h1.name), *undisturbed(h1.name, RELOGIN_BUDGET_MS)]


@scenario(hosts=2, needs=("kill",), not_for=NEEDS_KERNEL, control=fails("same_disk"))
def control_other_disk(lab: Lab) -> Iterable[Check]:
    """The target restarts and serves the next host a disk with another serial number."""
    h1, h2 = under_load(lab), lab.host(1)
    h1.stop_and_verify()
    _rename_disks(lab, lambda lun: replace(lun, serial="another1"))
    h2.login()
    h2.write_and_verify()
    return [
        same_disk(h1.name, h2.name),
        *undisturbed(h1.name, TAKEOVER_BUDGET_MS),
        *undisturbed(h2.name, TAKEOVER_BUDGET_MS),
    ]
