"""The targets and disks of an array, as its engine serves them."""

from __future__ import annotations

from pathlib import Path

from lab.array.access import Access
from lab.topology.topology import ArraySpec, initiator_name
from targets.base import LogicalUnit, TargetSpec


def targets_of(spec: ArraySpec, access: Access, disks: Path) -> list[TargetSpec]:
    """The targets of `spec`, with the hosts and secrets of `access`, and files below `disks`."""
    allowed = tuple(initiator_name(host) for host in access.allowed)
    return [
        TargetSpec(target.iqn, _luns(spec, number, disks), access.array.of_target, allowed)
        for number, target in enumerate(spec.targets)
    ]


def _luns(spec: ArraySpec, at: int, disks: Path) -> tuple[LogicalUnit, ...]:
    """The disks of target number `at`."""
    # The identity belongs to the disk: it depends on target and LUN only, not on the portal.
    target = spec.targets[at]
    return tuple(
        LogicalUnit(
            lun.number,
            disks / f"{target.name}-lun{lun.number}.img",
            lun.size_mib << 20,
            scsi_id=f"6{sum(spec.name.encode()):07x}{at:02x}{lun.number:06x}",
            serial=f"{target.name}lun{lun.number}",
        )
        for lun in target.luns
    )
