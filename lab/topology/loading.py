"""Finds and imports the user's topology and scenario files; errors name file and line."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from typing import Any

from lab.errors import BadInput, unknown
from lab.registry import Registry
from lab.topology import whole
from lab.topology.topology import ArrayTopo, file_of, shown

TOPOLOGIES = Registry("failover_lab.topologies", "topology", type, "")
"""The topologies of installed packages: subclasses of ArrayTopo."""


def topology(name: str) -> ArrayTopo:
    """The topology `name`: a module of topologies/ ("one_switch"), one of an installed package, or
    the path of a .py file.

    Raises BadInput if there is none, if the file cannot be imported or does not hold exactly one
    topology, and if the topology cannot be built.
    """
    folder = Path(__file__).parents[2] / "topologies"
    known = sorted(p.stem for p in folder.glob("*.py") if p.stem != "__init__")
    if name in known:
        module = load_file(folder / f"{name}.py", "topology")
    elif name in TOPOLOGIES:
        kind = TOPOLOGIES.find(name)
        if not issubclass(kind, ArrayTopo):
            raise BadInput(f"topology {name!r}: {kind.__qualname__} is no subclass of ArrayTopo")
        return build(kind)
    elif name.endswith(".py"):
        path = Path(name).absolute()
        # Do not import a file twice: it would register its scenarios twice.
        module = sys.modules.get(_module_name(path, "scenario")) or load_file(path, "topology")
    else:
        raise unknown("topology", name, [*known, *TOPOLOGIES], "one of your own is FILE.py")
    found = kinds_in(module)
    if len(found) != 1:
        raise BadInput(f"{name}: it must hold one subclass of ArrayTopo, not {len(found)}")
    return build(found[0])


def kinds_in(module: Any) -> list[type[ArrayTopo]]:
    """The topologies defined in a module, without those that it imports."""
    return [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, ArrayTopo)
        and kind.__module__ == module.__name__
    ]


def build(kind: type[ArrayTopo]) -> ArrayTopo:
    """Build and check a `kind`; an error in its build() becomes BadInput with its place."""
    try:
        topo = kind()
        whole.check(topo)
        return topo
    except BadInput:
        raise
    except (Exception, SystemExit) as wrong:
        raise BadInput(f"{file_of(kind)}:{_line_of(wrong, kind)}: {_told(wrong)}") from wrong


def load_file(path: Path, what: str) -> Any:
    """Import the file `path`, again if need be; BadInput, with the line, if that fails."""
    path = path.absolute()  # as tracebacks name it
    place = shown(path)
    if not path.is_file():
        raise BadInput(f"{place}: no such {what} file")
    name = _module_name(path, what)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BadInput(f"{place}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BadInput:
        raise
    except SyntaxError as wrong:
        where = shown(Path(wrong.filename)) if wrong.filename else place
        raise BadInput(f"{where}:{wrong.lineno or '?'}: {wrong.msg}") from None
    except (Exception, SystemExit) as wrong:
        raise BadInput(f"{place}:{_line_in(wrong, str(path))}: {_told(wrong)}") from wrong
    return module


def _module_name(path: Path, what: str) -> str:
    return f"lab_{what}_{path}"


def _told(wrong: BaseException) -> str:
    return f"{type(wrong).__name__}: {wrong}"


def _line_of(wrong: BaseException, kind: type) -> str:
    return _line_in(wrong, str(getattr(sys.modules.get(kind.__module__), "__file__", "")))


def _line_in(wrong: BaseException, filename: str) -> str:
    lines = [f.lineno for f in traceback.extract_tb(wrong.__traceback__) if f.filename == filename]
    return str(lines[-1]) if lines else "?"
