"""`lab selftest`: labs that are broken on purpose, and whether the checks find what is broken."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab import scenarios
from lab.checks import FACTORIES
from lab.cli import doctor as machine
from lab.cli.options import Json, Out, Release, Target
from lab.errors import BadInput, LabError, Missing, unknown
from lab.guest import image as images
from lab.run import run as runs
from lab.run.control import Caught, Control
from lab.run.scenario import Scenario
from targets import engines

_out = Console(highlight=False)
_COLOURS = {Caught.YES: "green", Caught.MISSED: "red", Caught.UNJUDGED: "yellow"}


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


def selftest(
    check: Annotated[
        list[str] | None, typer.Option("--check", help="Only this check; may be repeated.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="One broken lab for each family of checks.")
    ] = False,
    only_list: Annotated[
        bool, typer.Option("--list", help="Print the table of broken labs, and run none.")
    ] = False,
    release: Release = images.DEFAULT_RELEASE,
    target: Target = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Break labs on purpose: each check must fail in its own, and no other check.

    Exit codes: 0 all caught, 1 one was missed or another check failed too, 2 bad input, 3 missing
    software, 4 one could not be judged.
    """
    chosen = _chosen(check or [], quick, target)
    if only_list:
        print(markdown(chosen))
        return
    machine.require_for_runs()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    folder = out or Path("runs") / f"{stamp}-selftest"
    new = not folder.exists()
    if not new and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder}: not empty; name a folder that is not there yet")
    rows: list[Row] = []
    try:
        for number, (one, control) in enumerate(chosen, 1):
            row = _run(one, control, folder / one.name, target, release)
            if row.caught is Caught.UNJUDGED:  # a busy machine, most of the time: once more
                row = _run(one, control, folder / f"{one.name}-again", target, release)
            rows.append(row)
            print(f"{number}/{len(chosen)}  {one.name}  {rows[-1].caught}", file=sys.stderr)
    finally:
        if rows and as_json:
            print(json.dumps([row.as_json() for row in rows], indent=1))
        elif rows:
            _print(rows)
        if new and not rows:
            with suppress(OSError):  # it was not made, or holds the run that broke
                folder.rmdir()
    raise typer.Exit(exit_code(row.caught for row in rows))


def _chosen(
    names: Sequence[str], quick: bool, target: str | None
) -> list[tuple[Scenario, Control]]:
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


def _run(one: Scenario, control: Control, folder: Path, target: str | None, release: str) -> Row:
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


def _print(rows: Sequence[Row]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("check", "must be", "broken lab", "result"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(
            Text("\n".join(row.control.checks), style="bold"), str(row.control.verdict),
            row.scenario.name, Text(str(row.caught), style=_COLOURS[row.caught]),
        )  # fmt: skip
    _out.print(table)
    for row in rows:
        if row.why:
            text = f"\n{row.scenario.name}: {row.caught}: {row.why}\n  {row.folder}/report.html"
            _out.print(text, soft_wrap=True, markup=False)
    caught = sum(row.caught is Caught.YES for row in rows)
    checks = {name for row in rows for name in row.control.factories}
    _out.print(f"\n{caught} of {len(rows)} broken labs caught; {len(checks)} checks tested.")


def markdown(chosen: Iterable[tuple[Scenario, Control]]) -> str:
    """The broken labs as a table for a document."""
    lines = ["| check | verdict | broken lab | what is broken there |", "|---|---|---|---|"]
    for one, control in chosen:
        checks = ", ".join(f"`{name}`" for name in control.checks)
        also = "".join(f" (`{name}` too: {why}.)" for name, why in control.along.items())
        cut = f" Cut: {control.cut}." if control.cut else ""
        lines.append(f"| {checks} | {control.verdict} | `{one.name}` | {one.title}{cut}{also} |")
    return "\n".join(lines)
