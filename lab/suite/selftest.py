"""The self-test: labs that are broken on purpose, and whether the checks find what is broken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import scenarios
from lab.checks import FACTORIES
from lab.errors import BadInput, LabError, Missing, unknown
from lab.run import run as runs
from lab.run.control import Caught, Control
from lab.run.scenario import Scenario
from targets import engines


@dataclass(frozen=True)
class Row:
    """A broken lab, and how it was judged; `why` says what is wrong unless it was caught."""

    scenario: Scenario
    control: Control
    caught: Caught
    why: str
    folder: Path

    def as_json(self) -> dict[str, object]:
        """The row as --json prints it."""
        return {
            "control": self.scenario.name,
            "checks": list(self.control.checks),
            "must_be": str(self.control.verdict),
            "cut": self.control.cut,
            "result": str(self.caught),
            "why": self.why,
            "folder": str(self.folder),
        }


def broken_labs() -> list[tuple[Scenario, Control]]:
    """The negative controls of the catalogue, by the first check that finds each."""
    found = [(one, one.control) for one in scenarios.catalogue().values() if one.control]
    order = [*FACTORIES]
    return sorted(found, key=lambda pair: (pair[1].cut, order.index(pair[1].factories[0])))


def choose(names: Sequence[str], quick: bool, target: str | None) -> list[tuple[Scenario, Control]]:
    """The broken labs to run; BadInput for an unknown check or engine, or if none is left."""
    for name in names:
        if name not in FACTORIES:
            raise unknown("check", name, FACTORIES)
    if target:
        engines.find(target)
    found = [
        (one, control)
        for one, control in broken_labs()
        if (not names or set(names) & {*control.factories})
        and (control.quick or not quick)
        and not (one.lacking(target) if target else ())
    ]
    if not found:
        raise BadInput("no broken lab fits; `lab selftest --list` shows them all")
    return found


def run(one: Scenario, control: Control, folder: Path, target: str | None, release: str) -> Row:
    """Run a broken lab in `folder`, and once more beside it if it could not be judged.

    That a machine was too busy is the usual reason. Raises Missing and BadInput.
    """
    row = _once(one, control, folder, target, release)
    if row.caught is Caught.UNJUDGED:
        row = _once(one, control, folder.with_name(f"{one.name}-again"), target, release)
    return row


def _once(one: Scenario, control: Control, folder: Path, target: str | None, release: str) -> Row:
    plan = runs.plan(
        one, out=folder, topology_name=None, target=target, release_name=release, seed=1,
        say=lambda text: None,
    )  # fmt: skip
    try:
        caught, why = control.judge(runs.run(plan)["checks"])
    except (Missing, BadInput):
        raise
    except LabError as error:
        caught, why = Caught.UNJUDGED, str(error)
    finally:
        if folder.exists():
            runs.discard_unused(plan.folder)
    return Row(one, control, caught, why, plan.shown)


def exit_code(results: Iterable[Caught]) -> int:
    """0 if all were caught, 1 if any was missed, else 4."""
    found = set(results)
    return 1 if Caught.MISSED in found else 4 if Caught.UNJUDGED in found else 0


def markdown(chosen: Iterable[tuple[Scenario, Control]]) -> str:
    """The broken labs as a table for a document."""
    lines = ["| check | verdict | broken lab | what is broken there |", "|---|---|---|---|"]
    for one, control in chosen:
        checks = ", ".join(f"`{name}`" for name in control.checks)
        also = "".join(f" (`{name}` too: {why}.)" for name, why in control.along.items())
        cut = f" Cut: {control.cut}." if control.cut else ""
        lines.append(f"| {checks} | {control.verdict} | `{one.name}` | {one.title}{cut}{also} |")
    return "\n".join(lines)
