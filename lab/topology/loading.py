"""Files that a user names, topologies and scenarios: found, run, and refused with the line."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from typing import Any

from lab.errors import BadInput
from lab.topology.topology import ArrayTopo, file_of, shown


def topology(name: str) -> ArrayTopo:
    """The topology `name`: a module of topologies/ ("one_switch"), or the path of a .py file.

    Raises BadInput when there is none, when the file does not run, when it holds not exactly one
    topology, and for whatever the topology itself is refused for.
    """
    folder = Path(__file__).parents[2] / "topologies"
    known = sorted(p.stem for p in folder.glob("*.py") if p.stem != "__init__")
    if name in known:
        module = load_file(folder / f"{name}.py", "topology")
    elif name.endswith(".py"):
        module = load_file(Path(name), "topology")
    else:
        raise BadInput(f"no topology {name!r}; there are {', '.join(known)}, or give a .py file")
    found = [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, ArrayTopo)
        and kind.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise BadInput(f"{name}: it must hold one subclass of ArrayTopo, not {len(found)}")
    return build(found[0])


def build(kind: type[ArrayTopo]) -> ArrayTopo:
    """An instance of `kind`; whatever its build() stumbles over becomes BadInput with its place."""
    try:
        return kind()
    except BadInput:
        raise
    except (Exception, SystemExit) as wrong:
        raise BadInput(f"{file_of(kind)}:{_line_of(wrong, kind)}: {_told(wrong)}") from wrong


def load_file(path: Path, what: str) -> Any:
    """The module in the file `path`, run anew; BadInput, naming the line, when it cannot be run."""
    path = path.absolute()  # as tracebacks name it
    place = shown(path)
    if not path.is_file():
        raise BadInput(f"{place}: no such {what} file")
    name = f"lab_{what}_{path.stem}"
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


def _told(wrong: BaseException) -> str:
    return f"{type(wrong).__name__}: {wrong}"


def _line_of(wrong: BaseException, kind: type) -> str:
    return _line_in(wrong, str(getattr(sys.modules.get(kind.__module__), "__file__", "")))


def _line_in(wrong: BaseException, filename: str) -> str:
    lines = [f.lineno for f in traceback.extract_tb(wrong.__traceback__) if f.filename == filename]
    return str(lines[-1]) if lines else "?"
