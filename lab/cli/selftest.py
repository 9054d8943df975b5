"""`lab selftest`: labs that are broken on purpose, and whether the checks find what is broken."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab.cli import doctor as machine
from lab.cli.options import Json, Out, Release, Target
from lab.errors import BadInput
from lab.folder import RUNS, stamp
from lab.guest import image as images
from lab.run.control import Caught
from lab.suite import selftest as testing

_out = Console(highlight=False)
_COLOURS = {Caught.YES: "green", Caught.MISSED: "red", Caught.UNJUDGED: "yellow"}


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
    chosen = testing.choose(check or [], quick, target)
    if only_list:
        print(testing.markdown(chosen))
        return
    machine.require_for_runs()
    folder = out or RUNS / f"{stamp()}-selftest"
    new = not folder.exists()
    if not new and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder}: not empty; name a folder that is not there yet")
    rows: list[testing.Row] = []
    try:
        for number, (one, control) in enumerate(chosen, 1):
            rows.append(testing.run(one, control, folder / one.name, target, release))
            print(f"{number}/{len(chosen)}  {one.name}  {rows[-1].caught}", file=sys.stderr)
    finally:
        if rows and as_json:
            print(json.dumps([row.as_json() for row in rows], indent=1))
        elif rows:
            _print(rows)
        if new and not rows:
            with suppress(OSError):  # it was not made, or holds the run that broke
                folder.rmdir()
    raise typer.Exit(testing.exit_code(row.caught for row in rows))


def _print(rows: Sequence[testing.Row]) -> None:
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
