"""All target engines, by their names on the command line.

Each is a `Kind`, an entry point of an installed package in the group `failover_lab.engines`. Ours
are in pyproject.toml; examples/outside has another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.registry import Registry
from targets.base import Place, TargetEngine
from targets.front.base import Front

DEFAULT = "tgt"
ABILITIES = {
    "compare-and-write": "COMPARE AND WRITE that is atomic between hosts",
    "heads": "disks that several kernels can serve at once",
    "hides-targets": "the answer 0x0203, not found, to a host that is not on its access list",
    "kill": "a process that can be killed and started again",
    "power-cut": "a kernel of its own, whose power can be cut",
    "redirects": "native redirection at login, so that a second engine can be the front",
    "refuses-to-prove": "the answer 0x0201 to mutual CHAP for which it has no secret",
    "reservations-end-with-session": "persistent reservations that end with their session",
    "reservations-survive-power-cuts": "persistent reservations that survive a power cut (APTPL)",
    "reservations-survive-sessions": "persistent reservations that survive their session",
    "stores": "disks in files with and without a cache: file-write-back, file-write-through",
}
"""Abilities that only some engines have, each with a description for messages."""


@dataclass(frozen=True)
class Kind:
    """A kind of engine.

    `make` makes an engine at a place, with its log folder and its store for disks ("": the default
    one; BadInput for an unknown one). With `own_kernel` the place is a KernelPlace, and the engine
    an OwnKernel. `front` makes a front from an engine that redirects natively, with the parameters
    that it offers at login. `abilities`: those of ABILITIES that it has, for scenarios.
    """

    make: Callable[[Place, Path, str], TargetEngine]
    front: Callable[[Place, Path, Mapping[str, str]], Front] | None = None
    own_kernel: bool = False
    abilities: frozenset[str] = frozenset()


ENGINES = Registry("failover_lab.engines", "target", Kind, DEFAULT)

find = ENGINES.find
