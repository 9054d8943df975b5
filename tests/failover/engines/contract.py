"""What the tests of the target engines have in common; one more engine is one more line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from net import Net

from targets.base import LogicalUnit, TargetEngine, TargetSpec
from targets.lio.engine import Lio
from targets.tgt.engine import Tgt

ENGINES: dict[str, Callable[[Net, Path], TargetEngine]] = {
    "tgt": lambda net, tmp: Tgt(net.array, tmp / "work", tmp / "logs"),
    "lio": lambda net, tmp: Lio(net.guest, tmp / "logs"),
}
IN_A_GUEST = {"lio"}
IQN = "iqn.2024-01.lab.a1:disk"
HOST = "iqn.2024-01.lab.h1:host"
MIB = 1 << 20
DISK, IDENTITY, SERIAL = 1, 0x83, 0x80
AUTHENTICATION_FAILURE, FORBIDDEN, NOT_FOUND = 0x0201, 0x0202, 0x0203


def lun(number: int, folder: Path) -> LogicalUnit:
    return LogicalUnit(
        number, folder / f"disk{number}", 16 * MIB, f"a100000{number}", f"SN000{number}"
    )


def listening(net: Net) -> set[str]:
    lines = net.array.run(["ss", "-tlnH"]).output.splitlines()
    return {line.split()[3] for line in lines} - {"169.254.0.2:22"}  # how commands reach a guest


def serve(engine: TargetEngine, disk: TargetSpec, *portals: str) -> None:
    engine.create(disk)
    for portal in portals:
        engine.expose(portal)


def refuses(connect: Callable[[], object]) -> bool:
    try:
        connect()
    except ConnectionRefusedError:
        return True
    return False
