"""Identity, size and reservation of a disk stay the same when the path to it changes.

The array itself is asked, before and after every kind of move: a host's kernel caches the answers.
"""

from __future__ import annotations

from collections.abc import Iterable

from lab.array.policy import Policy
from lab.checks import (
    Check,
    asked_then_moved,
    kernel_quiet,
    login_answered,
    moved_to,
    new_login,
    no_io_errors,
    no_lost_writes,
    one_owner_of_virtual_address,
    reached,
    reservation_unchanged,
    same_connection,
    same_identity,
    served_at,
    session_survived,
    stall_below,
    writes_refused,
)
from lab.faults.network import array_powered_off, cable_pulled
from lab.host.host import LabHost
from lab.host.scsi import record_identity, record_reservation, reserve, try_to_write
from lab.load.several import Loads
from lab.run.lab import Lab
from lab.run.scenario import scenario
from lab.scenarios.power import BOOT_BUDGET_MS
from lab.scenarios.promises import (
    RELOGIN_BUDGET_MS,
    TAKEOVER_BUDGET_MS,
    at_home,
    lose_port,
    undisturbed,
)
from lab.scenarios.requests import drain

KEY = 0xA1
"""Reservation key of the first host."""
NEEDS_KERNEL = {"libiscsi": "the lab's SCSI commands need disks of a host kernel"}
NOP_S = 2
"""NOP-Out interval and timeout in seconds: the host notices a dead port sooner."""


def notice_soon(host: LabHost) -> None:
    """Let `host` give up a port that does not answer its NOP-Outs soon."""
    for name in ("interval", "timeout"):
        host.open_iscsi.configure(f"node.conn[0].timeo.noop_out_{name}", str(NOP_S))


def reserved(lab: Lab, *, lasting: bool = False) -> LabHost:
    """The first host, after it reserved the disk and began to write. A second one is logged in.

    `lasting`: reservation and writes must survive a power cut.
    """
    h1, h2 = lab.some_hosts(2)
    h1.login()
    h2.login()
    h2.session("before")
    reserve(h1, KEY, aptpl=lasting)
    h1.start_writing(durable=lasting)
    h1.keeps_writing()
    look(lab, "before")
    return h1


def look(lab: Lab, moment: str) -> None:
    """Record what the disk tells both hosts, and whether the second may write to it."""
    h1, h2 = lab.some_hosts(2)
    for host in (h1, h2):
        record_identity(host, moment)
        record_reservation(host, moment)
    try_to_write(h2, moment)


def kept(lab: Lab, budget_ms: float) -> list[Check]:
    """The checks for "kept": reservation, identity, and both hosts' disks."""
    h1, h2 = lab.some_hosts(2)
    return [
        *(reservation_unchanged(name) for name in (h1.name, h2.name)),
        writes_refused(h2.name),
        *(same_identity(name) for name in (h1.name, h2.name)),
        session_survived(h2.name),
        *undisturbed(h1.name, budget_ms),
    ]


def finish(lab: Lab, budget_ms: float) -> list[Check]:
    """End the load, look again, and return the checks of kept()."""
    h1 = lab.host()
    h1.keeps_writing()
    h1.stop_and_verify()
    look(lab, "after")
    lab.host(1).session("after")
    return kept(lab, budget_ms)


@scenario(hosts=2, ports=2, policy=at_home(), not_for=NEEDS_KERNEL)
def reservation_kept(lab: Lab) -> Iterable[Check]:
    """A host has reserved its disk. The port of the host and of the virtual address dies."""
    h1 = reserved(lab)
    home = lab.array.spec.home.name
    lose_port(lab, home, h1)
    kept = finish(lab, TAKEOVER_BUDGET_MS)
    others = {port.name for port in lab.array.spec.ports} - {home}
    return [
        same_connection(h1.name),
        moved_to(lab.array.address_of(home), others),
        moved_to(lab.array.virtual, others),
        *kept,
    ]


@scenario(
    hosts=2,
    ports=2,
    policy=Policy(mode="redirect-only", relay=True),
    full_capture=True,
    needs=("reservations-survive-sessions",),
    not_for=NEEDS_KERNEL,
)
def reservation_kept_by_relogin(lab: Lab) -> Iterable[Check]:
    """A host has reserved its disk. The array asks it to log in again; then its port dies.

    Not for a target that ties a reservation to the session that made it (tgt): see
    control-reservation-orphaned.
    """
    notice_soon(lab.host())
    h1 = reserved(lab)
    old = h1.address
    drain(lab, lab.array.port_of(old))
    h1.keeps_writing()
    look(lab, "moved")
    lab.begin(cable_pulled(lab, lab.array.port_of(h1.session("moved").address)))
    return [
        asked_then_moved(h1.name, lab.array.virtual, lab.array.data_addresses() - {old}),
        new_login(h1.name, lab.array.virtual),
        *finish(lab, RELOGIN_BUDGET_MS),
    ]


@scenario(
    hosts=2,
    policy=Policy(store="file-write-through"),
    needs=("power-cut", "reservations-survive-power-cuts", "stores"),
    not_for=NEEDS_KERNEL,
)
def reservation_kept_by_power_cut(lab: Lab) -> Iterable[Check]:
    """A host has reserved its disk (APTPL). The array loses power and boots again."""
    reserved(lab, lasting=True)
    lab.end(lab.begin(array_powered_off(lab)))
    return finish(lab, RELOGIN_BUDGET_MS + BOOT_BUDGET_MS)


def _every_disk(lab: Lab) -> Loads:
    """The loads of the first host: it writes to the first and last disk of each target."""
    h1 = lab.host()
    h1.login()
    sessions = h1.initiator.sessions()
    loads = h1.loads_on([(one, disk) for one in sessions for disk in (one.disks[0], one.disks[-1])])
    record_identity(h1, "before")
    loads.start()
    loads.keep_writing()
    return loads


def _all_moved(lab: Lab, loads: Loads, budget_ms: float) -> list[Check]:
    loads.keep_writing()
    loads.stop_and_verify()
    h1 = lab.host()
    record_identity(h1, "after")
    return [
        session_survived(h1.name),
        same_identity(h1.name, sum(len(target.luns) for target in lab.array.spec.targets)),
        login_answered(h1.name, lab.array.virtual, "0x0101"),
        *(no_io_errors(name) for name in loads.names),
        *(no_lost_writes(name) for name in loads.names),
        *(stall_below(name, budget_ms) for name in loads.names),
        one_owner_of_virtual_address(),
        kernel_quiet(),
        reached(),
    ]


@scenario(
    ports=2,
    topology="many_luns",
    policy=at_home(),
    not_for=NEEDS_KERNEL,
)
def many_luns(lab: Lab) -> Iterable[Check]:
    """The port with a host's sessions dies: several targets and LUNs move together."""
    h1, loads = lab.host(), _every_disk(lab)
    home = lab.array.spec.home.name
    lab.begin(cable_pulled(lab, home))
    address = lab.array.address_of(home)
    moved = _all_moved(lab, loads, TAKEOVER_BUDGET_MS)
    return [same_connection(h1.name), served_at(h1.name, address, "after"), *moved]


@scenario(
    ports=2,
    topology="many_luns",
    policy=at_home(mode="redirect-only"),
    not_for=NEEDS_KERNEL,
)
def size_after_relogin(lab: Lab) -> Iterable[Check]:
    """The port dies and all sessions of a host log in again: identity and size stay the same."""
    h1 = lab.host()
    notice_soon(h1)
    loads = _every_disk(lab)
    lost = h1.address
    lab.begin(cable_pulled(lab, lab.array.port_of(lost)))
    moved = _all_moved(lab, loads, RELOGIN_BUDGET_MS)
    return [
        served_at(h1.name, lost, "before"),
        served_at(h1.name, lab.array.data_addresses() - {lost}, "after"),
        *moved,
    ]
