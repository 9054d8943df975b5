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
ABILITIES = {
    "heads": "disks that several kernels can serve at once",
    "hides-targets": "the answer 0x0203, not found, to a host that its access list does not name",
    "kill": "a process that can be killed and started again",
    "power-cut": "a kernel of its own, whose power can be cut",
    "redirects": "redirection at login of its own, so that one of it can be the virtual port",
    "refuses-to-prove": "the answer 0x0201 to a host that wants a proof which it cannot give",
    "reservations-end-with-session": "persistent reservations that are bound to a session",
    "reservations-survive-power-cuts": "persistent reservations that outlast a power cut (APTPL)",
    "reservations-survive-sessions": "persistent reservations that outlast their session",
    "stores": "disks in files with and without a cache: file-write-back, file-write-through",
}
"""What engines may differ in, each with the words that say what an engine then has."""


@dataclass(frozen=True)
class Kind:
    """What an engine is.

    `make` makes one at a place, with its log folder and the store that disks are kept in ("" for
    its usual one; BadInput for one that it has not). With `own_kernel` that place is a KernelPlace,
    and the engine an OwnKernel. `front`, where the engine redirects natively, makes a front of it,
    with the parameters that it offers at login. `abilities`, of ABILITIES, are what scenarios
    may need of it.
    """

    make: Callable[[Place, Path, str], TargetEngine]
    front: Callable[[Place, Path, Mapping[str, str]], Front] | None = None
    own_kernel: bool = False
    abilities: frozenset[str] = frozenset()


ENGINES = Registry("failover_lab.engines", "target", Kind, DEFAULT)

find = ENGINES.find
