"""The target engines there are, by the name that the command line takes: one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.array.site import GuestSite, Site
from lab.errors import BadInput, unknown
from targets.base import OwnKernel, TargetEngine
from targets.front.native import UniformPort
from targets.lio.engine import Lio
from targets.tgt.engine import Tgt

DEFAULT = "tgt"


@dataclass(frozen=True)
class Kind:
    """How to make an engine at a site: with its log folder and the store that disks are kept in
    ("" for its usual one); and, if it redirects natively, a virtual port made of it, with the
    parameters that it offers at login."""

    engine: type
    make: Callable[[Site, Path, str], TargetEngine]
    front: Callable[[Site, Path, Mapping[str, str]], UniformPort] | None = None

    @property
    def own_kernel(self) -> bool:
        """Whether its site must be a kernel of its own."""
        return issubclass(self.engine, OwnKernel)


def _tgt(site: Site, logs: Path, store: str) -> Tgt:
    if store:
        raise BadInput(f"store {store!r}: tgt keeps disks in files only; take --target lio")
    return Tgt(site.runner, site.folder, logs, control_number=1)


def _tgt_front(site: Site, logs: Path, parameters: Mapping[str, str]) -> UniformPort:
    return UniformPort(Tgt(site.runner, site.folder, logs, control_number=0), parameters)


def _lio(site: Site, logs: Path, store: str) -> Lio:
    assert isinstance(site, GuestSite)
    return Lio(site, logs, store or "block")


ENGINES = {
    "tgt": Kind(Tgt, _tgt, _tgt_front),
    "lio": Kind(Lio, _lio),
}


def find(name: str) -> Kind:
    """The engine `name`; BadInput, with what there is, if there is none."""
    if name not in ENGINES:
        raise unknown("target", name, ENGINES)
    return ENGINES[name]
