"""The target engines there are, by the name that the command line takes.

Each is a `Kind` that an installed package names as an entry point of the group
`failover_lab.engines`: ours are in pyproject.toml, examples/outside brings another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.registry import Registry
from targets.base import Place, TargetEngine
from targets.front.base import Front

DEFAULT = "tgt"


@dataclass(frozen=True)
class Kind:
    """What an engine is.

    `make` makes one at a place, with its log folder and the store that disks are kept in ("" for
    its usual one; BadInput for one that it has not). With `own_kernel` that place is a KernelPlace,
    and the engine an OwnKernel. `front`, where the engine redirects natively, makes a front of it,
    with the parameters that it offers at login.
    """

    make: Callable[[Place, Path, str], TargetEngine]
    front: Callable[[Place, Path, Mapping[str, str]], Front] | None = None
    own_kernel: bool = False


ENGINES = Registry("failover_lab.engines", "target", Kind, DEFAULT)

find = ENGINES.find
