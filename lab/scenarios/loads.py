"""Takeovers under loads of other kinds: many operations in flight, and large ones."""

from __future__ import annotations

from collections.abc import Iterable

from lab.checks import Check, same_connection
from lab.faults.network import cable_pulled
from lab.run.lab import Lab
from lab.run.scenario import scenario
from lab.scenarios.promises import TAKEOVER_BUDGET_MS, undisturbed

DEPTH = 32
LARGE, LARGE_BLOCKS = 256, 32 * 256
"""Operations of 1 MiB: more than a host may send without R2T (FirstBurstLength, RFC 7143 section
13.14), so each goes in several Data-Out PDUs. They use 32 MiB of the disk."""
FEW = 20


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
