"""The commands `lab suite …`: the catalogue as a suite, its cells and their results."""

from __future__ import annotations

import contextlib
import json
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab.cli import doctor as machine
from lab.cli.options import Json
from lab.errors import BadInput
from lab.suite import by_pytest, options, records

suite_app = typer.Typer(help="The catalogue as a regression suite.", no_args_is_help=True)
_out = Console(highlight=False)

Globs = Annotated[
    list[str] | None, typer.Option("--scenario", help="Names with * and ?, or FILE.py:name.")
]
Families = Annotated[str, typer.Option("--family", help="Families: ports,login,…")]
Targets = Annotated[str, typer.Option("--target", help="Targets: tgt,lio, or all.")]
Initiators = Annotated[str, typer.Option("--initiator", help="Initiators, or all.")]
Releases = Annotated[str, typer.Option("--release", help="Debian releases, or all.")]
Topology = Annotated[str, typer.Option("--topology", help="A name, or a .py file.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="A few scenarios only.")]
Repeat = Annotated[int, typer.Option("--repeat", help="Times that each cell is run.")]
Shard = Annotated[str, typer.Option("--shard", help="PART/PARTS, such as 2/3.")]


def _given(
    scenario: list[str] | None, family: str, target: str, initiator: str, release: str,
    topology: str, smoke: bool, repeat: int, shard: str, **more: object,
) -> Namespace:  # fmt: skip
    values = {
        "scenario": scenario or [], "family": family, "target": target, "initiator": initiator,
        "release": release, "topology": topology, "smoke": smoke, "repeat": repeat, "shard": shard,
        "seed": 1, "resume": "", "out": "", **more,
    }  # fmt: skip
    return Namespace(**{f"lab_{name}": value for name, value in values.items()})


@suite_app.command("list")
def list_cells(
    scenario: Globs = None, family: Families = "", target: Targets = "",
    initiator: Initiators = "", release: Releases = "", topology: Topology = "",
    smoke: Smoke = False, repeat: Repeat = 1, shard: Shard = "1/1", as_json: Json = False,
) -> None:  # fmt: skip
    """List the cells, and those that do not exist with the reason."""
    given = _given(
        scenario, family, target, initiator, release, topology, smoke, repeat, shard
    )  # fmt: skip
    found, absent = options.cells(given)
    if as_json:
        rows = [{"id": c.id, **c.as_json(), "reason": None} for c in found]
        rows += [{"id": a.cell.id, **a.cell.as_json(), "reason": a.reason} for a in absent]
        print(json.dumps(rows, indent=1))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("cell", no_wrap=True)
    table.add_column("why it does not exist")
    for cell in found:
        table.add_row(Text(cell.id), Text(""))
    for one in absent:
        table.add_row(Text(one.cell.id, style="dim"), Text(one.reason))
    _out.print(table)
    _out.print(f"{len(found)} cells; {len(absent)} do not exist")


@suite_app.command()
def run(
    scenario: Globs = None, family: Families = "", target: Targets = "",
    initiator: Initiators = "", release: Releases = "", topology: Topology = "",
    smoke: Smoke = False, repeat: Repeat = 1, shard: Shard = "1/1",
    seed: Annotated[int, typer.Option("--seed", help="Of the first turn.", min=0)] = 1,
    jobs: Annotated[str, typer.Option("--jobs", help="Labs side by side, or auto.")] = "1",
    fail_fast: Annotated[bool, typer.Option("--fail-fast/--keep-going")] = False,
    retry: Annotated[int, typer.Option("--retry", help="Tries after a failure.", min=0)] = 0,
    allow_flaky: Annotated[bool, typer.Option("--allow-flaky", help="Not a failure.")] = False,
    resume: Annotated[str, typer.Option("--resume", help="Run what has not passed there.")] = "",
    out: Annotated[str, typer.Option("--out", help="The suite's folder; new or empty.")] = "",
    keep_mib: Annotated[int, typer.Option("--keep-mib", help="Most MiB to keep.", min=1)] = 2048,
    ktap: Annotated[bool, typer.Option("--ktap", help="Write suite.ktap too.")] = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Run the cells and report. Exit codes: those of `lab run`; flaky counts as failed."""
    workers = _workers(jobs)
    given = _given(
        scenario, family, target, initiator, release, topology, smoke, repeat, shard,
        seed=seed, resume=resume, out=out,
    )  # fmt: skip
    machine.require_for_runs()
    suite = options.suite(given)
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        status = by_pytest.run(
            suite, workers, fail_fast=fail_fast, retry=retry, keep_mib=keep_mib, ktap=ktap,
            allow_flaky=allow_flaky,
        )  # fmt: skip
    if as_json:
        print((suite.folder / records.SUITE).read_text(), end="")
    raise typer.Exit(status)


def _workers(jobs: str) -> int:
    from lab.suite import running

    if jobs == "auto":
        return running.jobs_here()
    if not jobs.isdigit() or not 1 <= int(jobs) <= 256:
        raise BadInput(f"--jobs {jobs}: give a number from 1 to 256, or auto")
    return int(jobs)


def compare(
    first: Annotated[Path, typer.Argument(help="A suite's folder, or a run folder.")],
    second: Annotated[Path, typer.Argument(help="The one to compare with it.")],
    as_json: Json = False,
) -> None:
    """Show which verdicts and stalls changed beyond noise. Exit code 1 if one is worse."""
    from lab.suite import compare as comparing

    changes = comparing.compare(comparing.load(first), comparing.load(second))
    if as_json:
        print(json.dumps([asdict(one) for one in changes], indent=1))
    else:
        for one in changes:
            _out.print(Text(f"{'worse ' if one.worse else '      '}{one.kind}: {one.what}"))
        if not changes:
            _out.print("nothing changed beyond noise")
    raise typer.Exit(1 if any(one.worse for one in changes) else 0)


@suite_app.command()
def learn(folder: Annotated[Path, typer.Argument(help="A suite's folder.")]) -> None:
    """Print what lab/suite/durations.json shall hold: time and slack of each cell that passed."""
    known = records.durations() | records.learn(records.read(folder))
    print(json.dumps(dict(sorted(known.items())), indent=1))


@suite_app.command()
def history(
    folders: Annotated[list[Path], typer.Argument(help="Folders of suites.")], as_json: Json = False
) -> None:
    """Draw the longest stall of each cell over time: a column for each of its runs."""
    runs: dict[str, list[tuple[float, float]]] = {}
    for folder in folders:
        for one in records.read(folder).outcomes():
            for record in one.tries:
                if record.longest_ms is not None:
                    runs.setdefault(record.kind, []).append((record.started, record.longest_ms))
    if not runs:
        raise BadInput("these suites have no run with a load, so there is nothing to draw")
    rows = {kind: [ms for _, ms in sorted(found)] for kind, found in sorted(runs.items())}
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("cell", "longest stall over time", "min", "median", "max, ms"):
        table.add_column(name, no_wrap=True)
    for kind, found in rows.items():
        figures = (min(found), median(found), max(found))
        table.add_row(Text(kind), Text(columns(found)), *(Text(f"{ms:.1f}") for ms in figures))
    _out.print(table)


def columns(values: list[float]) -> str:
    """The values as columns of text, from zero to the largest; the last 40."""
    shown, bars = values[-40:], "▁▂▃▄▅▆▇█"
    most = max(shown) or 1.0
    return "".join(bars[min(7, int(8 * value / most))] for value in shown)
