"""Takeovers under loads of other kinds: many operations in flight, and large ones."""

from __future__ import annotations

from collections.abc import Iterable

from lab.checks import Check, same_connection, swaps_agree
from lab.faults.network import block_overwritten, cable_pulled
from lab.host.host import LabHost
from lab.load.swaps import FIRST, Swaps
from lab.run.control import fails
from lab.run.lab import Lab
from lab.run.scenario import scenario
from lab.scenarios.promises import TAKEOVER_BUDGET_MS, undisturbed

DEPTH = 32
LARGE, LARGE_BLOCKS = 256, 32 * 256
"""Operations of 1 MiB: more than a host may send without R2T (FirstBurstLength, RFC 7143 section
13.14), so each goes in several Data-Out PDUs. They use 32 MiB of the disk."""
FEW, SWAPS = 20, 60


def _takeover(lab: Lab, writes: int, blocks: int, *, depth: int = 1, size: int = 1) -> list[Check]:
    h1 = lab.host()
    h1.login()
    h1.start_writing(blocks, depth=depth, size=size)
    h1.keeps_writing(writes)
    lab.begin(cable_pulled(lab, lab.array.port_of(h1.address)))
    h1.keeps_writing(writes)
    h1.stop_and_verify()
    return [same_connection(h1.name), *undisturbed(h1.name, TAKEOVER_BUDGET_MS)]


@scenario(ports=2, not_for={"libiscsi": "its load has one operation in flight"})
def deep_queue_takeover(lab: Lab) -> Iterable[Check]:
    """port-takeover with 32 writes and reads in flight: none is lost, doubled or reordered."""
    return _takeover(lab, 600, 1024, depth=DEPTH)


@scenario(ports=2)
def large_writes_takeover(lab: Lab) -> Iterable[Check]:
    """port-takeover with writes of 1 MiB, which need R2T and Data-Out: none is lost or torn."""
    return _takeover(lab, FEW, LARGE_BLOCKS, size=LARGE)


def sharing(lab: Lab) -> tuple[list[LabHost], list[Swaps]]:
    """Two hosts that are logged in and swap the same slots; the first one writes as well."""
    hosts = lab.some_hosts(2)
    for host in hosts:
        host.login()
    hosts[0].start_writing()
    return hosts, [host.start_swapping() for host in hosts]


def _end(h1: LabHost, swaps: list[Swaps]) -> None:
    for one in swaps:
        one.go_on(SWAPS)
    for one in swaps:
        one.stop()
    for one in swaps:  # what the last of them has written, too
        one.read()
    h1.stop_and_verify()


NO_KERNEL = {"libiscsi": "its hosts have no kernel that passes SCSI commands on"}


@scenario(hosts=2, ports=2, needs=("compare-and-write",), not_for=NO_KERNEL)
def shared_region_takeover(lab: Lab) -> Iterable[Check]:
    """Two hosts swap the same blocks (COMPARE AND WRITE) while the port of one dies."""
    (h1, _), swaps = sharing(lab)
    for one in swaps:
        one.go_on(SWAPS)
    lab.begin(cable_pulled(lab, lab.array.port_of(h1.address)))
    _end(h1, swaps)
    return [
        swaps_agree(2 * SWAPS),
        same_connection(h1.name),
        *undisturbed(h1.name, TAKEOVER_BUDGET_MS),
    ]


@scenario(
    hosts=2,
    needs=("compare-and-write",),
    not_for=NO_KERNEL,
    control=fails("swaps_agree", quick=True),
)
def control_slot_overwritten(lab: Lab) -> Iterable[Check]:
    """Blocks that two hosts share are overwritten in the LUN's file, unknown to both."""
    (h1, _), swaps = sharing(lab)
    lab.begin(block_overwritten(lab, FIRST // 8))
    for one in swaps:
        one.stop()
    for one in swaps:
        one.read()
    h1.stop_and_verify()
    return [swaps_agree(), *undisturbed(h1.name, TAKEOVER_BUDGET_MS)]
