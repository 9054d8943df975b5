"""What a scenario is, and what it needs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lab.array.policy import Policy
from lab.checks import Check
from lab.errors import BadInput
from lab.host import initiator as initiators
from lab.run.control import Control
from lab.topology.heads import HeadsTopo
from lab.topology.topology import ArrayTopo, shown
from targets import engines
from targets.engines import ABILITIES

if TYPE_CHECKING:
    from lab.run.lab import Lab

Act = Callable[["Lab"], Iterable[Check]]
PolicyOf = Callable[[ArrayTopo], Policy]
"""Makes a policy that names hosts and ports, with the names of the topology in use."""

registered: dict[str, Scenario] = {}
"""Every scenario of an imported file, by name; lab/scenarios/__init__.py imports them."""


@dataclass(frozen=True)
class Scenario:
    """A named function that acts on a running lab and returns the checks that must hold."""

    name: str
    act: Act
    hosts: int | tuple[str, ...] = 1
    ports: int = 1
    topology: str = "one_switch"
    policy: Policy | PolicyOf = field(default_factory=Policy)
    full_capture: bool = False
    listed: bool = True
    needs: tuple[str, ...] = ()
    not_for: Mapping[str, str] = field(default_factory=dict)
    control: Control | None = None
    asked_as: str = ""
    """Its name on the command line: that of the catalogue, or FILE.py:name."""

    @property
    def targets(self) -> tuple[str, ...]:
        """The engines that can run it; the default engine first, if it can.

        An engine of an installed package is left out if it cannot be imported.
        """
        found = []
        for name in engines.ENGINES:
            try:
                found += [name] if not self.lacking(name) else []
            except BadInput:
                # Another engine must not take the place of the usual one unnoticed.
                if name == engines.DEFAULT:
                    raise
        return tuple(found)

    def lacking(self, target: str) -> list[str]:
        """The needs of the scenario that the engine `target` does not meet."""
        abilities = engines.find(target).abilities
        return [need for need in self.needs if need not in abilities]

    def policy_for(self, topo: ArrayTopo) -> Policy:
        """The policy of its array on `topo`."""
        return self.policy(topo) if callable(self.policy) else self.policy

    @property
    def initiators(self) -> tuple[str, ...]:
        """The initiators that it can be run with."""
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
    hosts: int | str | Sequence[str] = 1,
    ports: int = 1,
    topology: str = "one_switch",
    policy: Policy | PolicyOf | None = None,
    full_capture: bool = False,
    listed: bool = True,
    needs: Sequence[str] = (),
    not_for: Mapping[str, str] | None = None,
    control: Control | None = None,
) -> Callable[[Act], Act]:
    """Put a function into the catalogue, under its name with hyphens.

    `hosts`: how many hosts it acts on, or their names. `ports`: how many ports the array must have.
    `topology`: the default topology. `policy`: a Policy, or a function that makes one for a
    topology and so can name its hosts and ports. `full_capture` records all frames, not only
    control traffic. `listed`: False for one that runs by name only. `needs`: abilities that the
    target engine must have (targets.engines.ABILITIES). `not_for`: initiators that it cannot be run
    with, and why. `control`: what the checks must find, if the lab is broken on purpose; it is not
    listed then.

    Raises BadInput for a name that is taken, or an unknown ability.
    """

    def register(act: Act) -> Act:
        name = act.__name__.replace("_", "-")
        if name in registered:
            places = f"{place_of(registered[name].act)} and {place_of(act)}"
            raise BadInput(f"{places}: two scenarios are called {name}; rename one")
        for need in needs:
            if need not in ABILITIES:
                known = ", ".join(ABILITIES)
                raise BadInput(f"{place_of(act)}: no ability {need!r}; there are {known}")
        names = (hosts,) if isinstance(hosts, str) else hosts
        registered[name] = Scenario(
            name, act, names if isinstance(names, int) else tuple(names), ports, topology,
            policy or Policy(), full_capture, listed and control is None, tuple(needs),
            dict(not_for or {}), control,
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
    initiator: str = initiators.DEFAULT,
) -> None:
    """Raise BadInput if the topology at `place`, the engine `target` or the `initiator` lacks what
    the scenario needs, or if one of the two is unknown."""
    initiators.find(initiator)
    if initiator in one.not_for:
        why = one.not_for[initiator]
        raise BadInput(f"scenario {one.name} cannot be run with --initiator {initiator}: {why}")
    _check_target(one, target)
    where, needs = f"{place}: scenario {one.name}", f"{place}: scenario {one.name} needs"
    if "heads" in one.needs and not isinstance(topo, HeadsTopo):
        raise BadInput(f"{needs} an array with heads; the topology has none; try two_heads")
    hosts, ports = [*topo.initiators], [port.name for port in topo.storage.ports]
    for count, there, what in (
        (one.hosts if isinstance(one.hosts, int) else 0, hosts, "host"),
        (one.ports, ports, "port"),
    ):
        if len(there) < count:
            raise BadInput(
                f"{needs} {count} {what}s; the topology has {len(there)}: {', '.join(there)}"
            )
    try:
        policy = one.policy_for(topo)
    except BadInput as lacks:
        raise BadInput(f"{where}: {lacks}") from None
    by_name = one.hosts if isinstance(one.hosts, tuple) else ()
    named = (*by_name, *policy.fixed, *policy.serve, *policy.access.names)
    for wanted, there, what in ((named, hosts, "host"), (policy.fixed.values(), ports, "port")):
        lacking = [name for name in wanted if name not in there]
        if lacking:
            raise BadInput(
                f"{needs} {what} {lacking[0]}; "
                f"there is {', '.join(there)}; rename one or choose another topology"
            )


def _check_target(one: Scenario, target: str | None) -> None:
    """Raise BadInput if the engine `target` (None: any) cannot do what the scenario needs."""
    lacking = one.lacking(target) if target else [] if one.targets else list(one.needs)
    if lacking:
        able = f"--target {' or '.join(one.targets)}" if one.targets else "another target engine"
        what = " and ".join(f"{need} ({ABILITIES[need]})" for need in lacking)
        raise BadInput(f"scenario {one.name} needs {able}: {target or 'no engine'} lacks {what}")
