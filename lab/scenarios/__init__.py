"""The catalogue: one file per family of scenarios. find() finds any scenario by its name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from lab.errors import BadInput, unknown
from lab.registry import Registry
from lab.run.scenario import Scenario, place_of, registered
from lab.topology import loading

MODULES = Registry("failover_lab.scenarios", "module of scenarios", ModuleType, "")
"""The modules in which installed packages have scenarios."""


def catalogue() -> dict[str, Scenario]:
    """All scenarios by name: first those of this folder, by file, then those of installed packages.
    Raises BadInput if a package's module cannot be imported."""
    modules = [
        f"{__name__}.{name}" for name in sorted(m.name for m in pkgutil.iter_modules(__path__))
    ]
    for module in modules:
        importlib.import_module(module)
    modules += [module.__name__ for module in MODULES.every()]
    within = tuple(f"{module}." for module in modules)
    return {n: s for n, s in registered.items() if f"{s.act.__module__}.".startswith(within)}


def find(name: str) -> Scenario:
    """The scenario `name`: of the catalogue, or the user's own as `FILE.py` or `FILE.py:name`.

    A scenario in a file with one topology runs on that, unless it names another. Raises BadInput
    for any other name (with the known ones), and for a scenario that cannot be called.
    """
    found = replace(_find(name), asked_as=name)
    try:
        inspect.signature(found.act).bind(None)
    except TypeError:
        said = f"{place_of(found.act)}: scenario {found.name} must take one argument, the lab"
        raise BadInput(f"{said}: def {found.act.__name__}(lab)") from None
    return found


def _find(name: str) -> Scenario:
    known = catalogue()
    if name in known:
        return known[name]
    path, _, wanted = name.partition(":")
    if not path.endswith(".py"):
        listed = [n for n, s in known.items() if s.listed]
        remedy = "`lab list` shows all; one of your own is FILE.py or FILE.py:name"
        raise unknown("scenario", name, listed, remedy)
    for other in [n for n in registered if n not in known]:
        del registered[other]  # of an earlier file; if it is this one, it is imported again
    module = loading.load_file(Path(path), "scenario")
    own = {n: s for n, s in registered.items() if n not in known}
    if not own:
        raise BadInput(f"{path}: it holds no scenario; put @scenario() above a function")
    if wanted and wanted.replace("_", "-") not in own:
        raise BadInput(f"{path}: {unknown('scenario', wanted, own)}")
    if not wanted and len(own) != 1:
        choices = ", ".join(f"{path}:{n}" for n in own)
        raise BadInput(f"{path}: it holds {len(own)} scenarios; say which: {choices}")
    one = own[wanted.replace("_", "-")] if wanted else next(iter(own.values()))
    return replace(one, topology=_topology(one, Path(path), len(loading.kinds_in(module))))


def _topology(one: Scenario, path: Path, kinds: int) -> str:
    """The topology of `one`, from the file `path`, which holds `kinds` topologies."""
    if one.topology.endswith(".py"):
        return str(path.parent / one.topology)
    return str(path) if one.topology == Scenario.topology and kinds == 1 else one.topology
