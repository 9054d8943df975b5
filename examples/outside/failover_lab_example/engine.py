"""A target engine: a tgtd that asks for all data (R2T) and takes none with the command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lab.errors import BadInput
from targets.base import Place, TargetSpec
from targets.engines import Kind
from targets.front.native import NativeFront
from targets.tgt.engine import Tgt


class SolicitedTgt(Tgt):
    """tgt as an array with little memory would be: ImmediateData=No (RFC 7143, section 13.11)."""

    name = "tgt-solicited"

    def create(self, target: TargetSpec) -> None:
        """See TargetEngine."""
        super().create(target)
        self.set_parameter(target.iqn, "ImmediateData", "No")


def _make(place: Place, logs: Path, store: str) -> SolicitedTgt:
    if store:
        raise BadInput(f"store {store!r}: tgt-solicited keeps disks in files only")
    return SolicitedTgt(place.runner, place.folder, logs, control_number=1)


def _front(place: Place, logs: Path, parameters: Mapping[str, str]) -> NativeFront:
    engine = SolicitedTgt(place.runner, place.folder, logs, control_number=0)
    return NativeFront(engine, parameters)


KIND = Kind(_make, _front, abilities=frozenset({"kill", "redirects"}))
