"""What a scenario is, and what it needs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lab.array.array import Policy
from lab.checks import Check
from lab.errors import BadInput
from lab.host import initiator as initiators
from lab.topology.topology import ArrayTopo, shown
from targets import engines
from targets.engines import ENGINES

if TYPE_CHECKING:
    from lab.run.lab import Lab

Act = Callable[["Lab"], Iterable[Check]]

registered: dict[str, Scenario] = {}
"""Every scenario whose file has been run, by name; lab/scenarios/__init__.py runs them."""


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
        return tuple(name for name in initiators.NAMES if name not in self.not_for)

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
        if name in registered:
            places = f"{place_of(registered[name].act)} and {place_of(act)}"
            raise BadInput(f"{places}: two scenarios are called {name}; rename one")
        needed = (hosts,) if isinstance(hosts, str) else tuple(hosts)
        registered[name] = Scenario(
            name, act, needed, topology, policy or Policy(), full_capture, listed, tuple(targets),
            dict(not_for or {}),
        )  # fmt: skip
        return act

    return register


def place_of(act: Act) -> str:
    """File and line of a scenario, as messages name them."""
    code = inspect.unwrap(act).__code__
    return f"{shown(Path(code.co_filename))}:{code.co_firstlineno}"


def check_fits(
    one: Scenario,
    topo: ArrayTopo,
    place: str,
    target: str | None = None,
    initiator: str = initiators.NAMES[0],
) -> None:
    """Raise BadInput if the topology at `place` lacks a host or port that the scenario needs, or
    the engine `target` or the `initiator` is unknown, or cannot do what it needs."""
    initiators.check_name(initiator)
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
