"""The cells of the suite: scenario, target, initiator, release, topology; which of them exist."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from lab import scenarios
from lab.errors import BadInput, unknown
from lab.guest import image as images
from lab.host import initiator as initiators
from lab.run.scenario import Scenario, check_fits
from lab.topology import loading
from targets import engines

ALL = "all"
"""Given for --target, --initiator or --release: every one that there is."""
SMOKE = ("hidden-ports", "port-redirection", "port-takeover", "virtual-port-reassignment")
"""The scenarios of --smoke: one of each promise that a user meets first."""
_MOST_REPEATS = 1000


@dataclass(frozen=True)
class Cell:
    """One cell: a scenario with a target, an initiator, a release, a topology ("": its own).

    `turn` counts the repetitions of one cell from 1.
    """

    scenario: str
    target: str
    initiator: str
    release: str
    topology: str = ""
    turn: int = 1

    @property
    def kind(self) -> str:
        """Its name without the turn: what is compared from suite to suite."""
        parts = [_plain(self.scenario), self.target, self.initiator, self.release]
        return ".".join([*parts, _plain(self.topology)] if self.topology else parts)

    @property
    def id(self) -> str:
        """Its name: that of its test, and of its folder."""
        return self.kind if self.turn == 1 else f"{self.kind}.{self.turn}"

    def as_json(self) -> dict[str, Any]:
        """The cell as suite.json holds it."""
        return asdict(self)


def _plain(name: str) -> str:
    """A scenario or topology as part of a file name: FILE.py:name becomes FILE-name."""
    return re.sub(r"[^\w-]+", "-", name.rpartition("/")[2].replace(".py", "")).strip("-")


@dataclass(frozen=True)
class Absent:
    """A cell that does not exist, and why."""

    cell: Cell
    reason: str


@dataclass(frozen=True)
class Selection:
    """What is chosen of the catalogue. An empty filter chooses the usual ones.

    `scenarios` are globs, or own scenarios as FILE.py:name. Without `targets`, each scenario runs
    on the first that can run it. `shard` is the part `shard[0]` of `shard[1]`.
    """

    scenarios: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    initiators: tuple[str, ...] = ()
    releases: tuple[str, ...] = ()
    topology: str = ""
    smoke: bool = False
    repeat: int = 1
    shard: tuple[int, int] = (1, 1)


def names(text: str) -> tuple[str, ...]:
    """The names in a list with commas: "tgt,lio"."""
    return tuple(dict.fromkeys(one.strip() for one in text.split(",") if one.strip()))


def parse_shard(text: str) -> tuple[int, int]:
    """The shard "2/3" as (2, 3); BadInput for another text."""
    found = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text)
    part, of = (int(one) for one in found.groups()) if found else (0, 0)
    if not 1 <= part <= of:
        raise BadInput(f"--shard {text}: give it as PART/PARTS, from 1/3 to 3/3 for three parts")
    return part, of


def family(one: Scenario) -> str:
    """The family of a scenario: the file that it is in."""
    return one.act.__module__.rpartition(".")[2].rpartition("/")[2].removesuffix(".py")


def choose(chosen: Selection) -> tuple[list[Cell], list[Absent]]:
    """The cells of a selection, and those of it that do not exist, each with the reason.

    Raises BadInput for an unknown name in a filter, and for a selection without a cell.
    """
    if not 1 <= chosen.repeat <= _MOST_REPEATS:
        raise BadInput(f"--repeat {chosen.repeat}: give a number from 1 to {_MOST_REPEATS}")
    found = _scenarios(chosen)
    _known("target", chosen.targets, engines.ENGINES)
    of_initiators = _known("initiator", chosen.initiators, initiators.INITIATORS)
    of_releases = _known("release", chosen.releases, images.RELEASES)
    cells: list[Cell] = []
    absent: list[Absent] = []
    for one in found:
        for target in _targets(one, chosen.targets):
            for initiator in of_initiators or (initiators.DEFAULT,):
                for release in of_releases or (images.DEFAULT_RELEASE,):
                    name = one.asked_as or one.name
                    cell = Cell(name, target, initiator, release, chosen.topology)
                    reason = why_not(one, cell)
                    if reason:
                        absent.append(Absent(cell, reason))
                    else:
                        cells.append(cell)
    if not cells:
        why = f": {absent[0].reason}" if absent else ""
        raise BadInput(f"no cell is left by these filters{why}; `lab suite list` shows all")
    _check_names(cells)
    return cells, absent


def _check_names(cells: Iterable[Cell]) -> None:
    """Raise BadInput if two cells have one name: the record of one would be taken for the other's.

    FILE.py:name loses its folder in it.
    """
    found: dict[str, Cell] = {}
    for cell in cells:
        same = found.setdefault(cell.id, cell)
        if same != cell:
            raise BadInput(
                f"{same.scenario} and {cell.scenario} have one name in a suite, {cell.id}; rename "
                "one of them, or its file"
            )


def why_not(one: Scenario, cell: Cell) -> str:
    """Why `cell` of the scenario `one` does not exist; "" if it does."""
    name = cell.topology or one.topology
    topo = loading.topology(name)
    try:
        check_fits(one, topo, name, cell.target, cell.initiator)
    except BadInput as lacks:
        return str(lacks)
    return ""


def turns(cells: Iterable[Cell], repeat: int) -> list[Cell]:
    """Each cell `repeat` times; the turns of one cell lie apart, so that a busy minute hits one."""
    there = list(cells)
    return [replace(cell, turn=turn) for turn in range(1, repeat + 1) for cell in there]


def share(cells: Sequence[Cell], seconds: Mapping[str, float], part: int, of: int) -> list[Cell]:
    """The cells of the shard `part` of `of`, in their order; all shards take about as long.

    `seconds`: how long a cell takes, by kind. The longest goes first, to the shard with least.
    """
    mean = sum(seconds.values()) / len(seconds) if seconds else 1.0
    loads = [0.0] * of
    mine: set[str] = set()
    for cell in sorted(cells, key=lambda c: (-seconds.get(c.kind, mean), c.id)):
        least = loads.index(min(loads))
        loads[least] += seconds.get(cell.kind, mean)
        if least == part - 1:
            mine.add(cell.id)
    return [cell for cell in cells if cell.id in mine]


def _targets(one: Scenario, wanted: tuple[str, ...]) -> tuple[str, ...]:
    if wanted:
        return tuple(engines.ENGINES) if ALL in wanted else wanted
    return one.targets[:1] or (engines.DEFAULT,)


def _known(what: str, wanted: tuple[str, ...], there: Iterable[str]) -> tuple[str, ...]:
    """The `wanted` names; all of `there` if "all" is among them. BadInput for an unknown one."""
    known = list(there)
    if ALL in wanted:
        return tuple(known)
    for name in wanted:
        if name not in known:
            raise unknown(what, name, known)
    return wanted


def _scenarios(chosen: Selection) -> list[Scenario]:
    """The scenarios of the catalogue, or of files, that the filters choose."""
    listed = {name: one for name, one in scenarios.catalogue().items() if one.listed}
    there = list(dict.fromkeys(family(one) for one in listed.values()))
    families = _known("family", chosen.families, there)
    found: dict[str, Scenario] = {} if chosen.scenarios else dict(listed)
    for glob in chosen.scenarios:
        fits = {name: one for name, one in listed.items() if fnmatchcase(name, glob)}
        if not fits and set("*?[") & set(glob):
            raise BadInput(f"no scenario is named like {glob!r}; `lab list` shows all")
        # A name may also be that of a control, or of a user's own file.
        found.update(fits or {glob: scenarios.find(glob)})
    if families:
        found = {name: one for name, one in found.items() if family(one) in families}
    if chosen.smoke:
        found = {name: one for name, one in found.items() if name in SMOKE}
    return list(found.values())
