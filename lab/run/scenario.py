"""What a scenario is, and where the catalogue finds it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import lab.scenarios
from lab.array.array import Policy
from lab.checks import Check
from lab.errors import BadInput
from lab.host import initiator as initiators
from lab.topology.loading import load_file
from lab.topology.topology import ArrayTopo
from targets import engines
from targets.engines import ENGINES

if TYPE_CHECKING:
    from lab.run.lab import Lab

Act = Callable[["Lab"], Iterable[Check]]

_catalogue: dict[str, Scenario] = {}


@dataclass(frozen=True)
class Scenario:
    """A named function that acts on a running lab and returns the checks that must hold."""

    name: str
    act: Act
    hosts: tuple[str, ...] = ("h1",)
    topology: str = "one_switch"
    policy: Policy = field(default_factory=Policy)
    full_capture: bool = False
    listed: bool = True
    targets: tuple[str, ...] = tuple(ENGINES)
    not_for: Mapping[str, str] = field(default_factory=dict)
    asked_as: str = ""
    """What the command line calls it: its name, or the FILE.py:name that it was found in."""

    @property
    def initiators(self) -> tuple[str, ...]:
        """Those that it can be run with."""
        return tuple(name for name in initiators.INITIATORS if name not in self.not_for)

    @property
    def title(self) -> str:
        """The first line of its docstring."""
        return (self.description or self.name).splitlines()[0]

    @property
    def description(self) -> str:
        """Its docstring."""
        return inspect.getdoc(self.act) or ""


def scenario(
    *,
    hosts: Sequence[str] = ("h1",),
    topology: str = "one_switch",
    policy: Policy | None = None,
    full_capture: bool = False,
    listed: bool = True,
    targets: Sequence[str] = tuple(ENGINES),
    not_for: Mapping[str, str] | None = None,
) -> Callable[[Act], Act]:
    """Put a function into the catalogue, under its name with hyphens.

    `hosts` are those that it acts on, `topology` is what it runs on unless the command line says
    otherwise, `policy` what its array is told, `full_capture` records all frames instead of control
    traffic only. One that is not `listed` runs by name but is no promise of the catalogue: a
    negative control. `targets` are the engines that it can be run with, the usual one first.
    `not_for` names the initiators that it cannot be run with, and why.
    """

    def register(act: Act) -> Act:
        name = act.__name__.replace("_", "-")
        if name in _catalogue:
            places = f"{_place(_catalogue[name].act)} and {_place(act)}"
            raise BadInput(f"{places}: two scenarios are called {name}; rename one")
        needed = (hosts,) if isinstance(hosts, str) else tuple(hosts)
        _catalogue[name] = Scenario(
            name, act, needed, topology, policy or Policy(), full_capture, listed, tuple(targets),
            dict(not_for or {}),
        )  # fmt: skip
        return act

    return register


def _place(act: Act) -> str:
    code = inspect.unwrap(act).__code__
    return f"{code.co_filename}:{code.co_firstlineno}"


def check_fits(
    one: Scenario,
    topo: ArrayTopo,
    place: str,
    target: str | None = None,
    initiator: str = initiators.DEFAULT,
) -> None:
    """Raise BadInput if the topology at `place` lacks a host or port that the scenario needs, or
    the engine `target` or the `initiator` is unknown, or cannot do what it needs."""
    initiators.find(initiator)
    if initiator in one.not_for:
        why = one.not_for[initiator]
        raise BadInput(f"scenario {one.name} cannot be run with --initiator {initiator}: {why}")
    if target:
        engines.find(target)
    if target and target not in one.targets:
        raise BadInput(f"scenario {one.name} needs --target {' or '.join(one.targets)}")
    hosts, ports = [*topo.initiators], [port.name for port in topo.storage.ports]
    named = (*one.policy.fixed, *one.policy.serve, *one.policy.access.names)
    for wanted, there, what in (
        ((*one.hosts, *named), hosts, "host"),
        (one.policy.fixed.values(), ports, "port"),
    ):
        lacking = [name for name in wanted if name not in there]
        if lacking:
            raise BadInput(
                f"{place}: scenario {one.name} needs {what} {lacking[0]}; "
                f"there is {', '.join(there)}; rename one or choose another topology"
            )


def catalogue() -> dict[str, Scenario]:
    """All scenarios of lab/scenarios by name, in the order of their files."""
    for module in sorted(m.name for m in pkgutil.iter_modules(lab.scenarios.__path__)):
        importlib.import_module(f"lab.scenarios.{module}")
    package = lab.scenarios.__name__ + "."
    return {n: s for n, s in _catalogue.items() if s.act.__module__.startswith(package)}


def find(name: str) -> Scenario:
    """The scenario `name`: of the catalogue, or `FILE.py` or `FILE.py:name` of one's own.

    Raises BadInput, with what there is, for any other name.
    """
    return replace(_find(name), asked_as=name)


def _find(name: str) -> Scenario:
    known = catalogue()
    if name in known:
        return known[name]
    path, _, wanted = name.partition(":")
    if not path.endswith(".py"):
        listed = ", ".join(n for n, s in known.items() if s.listed)
        raise BadInput(f"no scenario {name!r}; there are {listed}; or give FILE.py:name")
    for other in [n for n in _catalogue if n not in known]:
        del _catalogue[other]  # of a file asked for earlier, perhaps this one: it is run anew
    load_file(Path(path), "scenario")
    own = {n: s for n, s in _catalogue.items() if n not in known}
    if not own:
        raise BadInput(f"{path}: it holds no scenario; put @scenario() above a function")
    if wanted:
        if wanted.replace("_", "-") not in own:
            raise BadInput(f"{path}: no scenario {wanted!r}; there are {', '.join(own)}")
        return own[wanted.replace("_", "-")]
    if len(own) != 1:
        choices = ", ".join(f"{path}:{n}" for n in own)
        raise BadInput(f"{path}: it holds {len(own)} scenarios; say which: {choices}")
    return next(iter(own.values()))
