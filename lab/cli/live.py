"""Orders to a lab that `lab up` keeps up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from lab.cli.options import Json
from lab.folder import RUNS
from lab.run import desk

_out = Console(highlight=False)

Run = Annotated[
    Path | None,
    typer.Option("--run", help="Run folder; needed unless exactly one lab is up in runs/."),
]
Port = Annotated[str, typer.Argument(help="A port of the array.")]
Cable = Annotated[str, typer.Argument(help="Its end: a port of the array, or a host.")]


def add_to(app: typer.Typer) -> None:
    """Add a command for each order to `app`."""
    for command in (status, move_vip, drain, undrain, rebalance, pull, plug, down):
        app.command()(command)


def status(run: Run = None, as_json: Json = False) -> None:
    """Show which port has each address, and which hosts it serves."""
    _order("status", None, run, as_json)


def move_vip(
    port: Annotated[str | None, typer.Argument(help="A port; none: its home port.")] = None,
    run: Run = None,
    as_json: Json = False,
) -> None:
    """Move the virtual address to a port, and keep it there."""
    _order("move-vip", port, run, as_json)


def drain(port: Port, run: Run = None, as_json: Json = False) -> None:
    """Move a port's addresses to other ports until `lab undrain`."""
    _order("drain", port, run, as_json)


def undrain(port: Port, run: Run = None, as_json: Json = False) -> None:
    """Use a drained port again."""
    _order("undrain", port, run, as_json)


def rebalance(run: Run = None, as_json: Json = False) -> None:
    """Even out the sessions. Ask hosts, one at a time, to log out and log in elsewhere."""
    _order("rebalance", None, run, as_json)


def pull(name: Cable, run: Run = None, as_json: Json = False) -> None:
    """Pull a cable: the link goes down."""
    _order("pull", name, run, as_json)


def plug(name: Cable, run: Run = None, as_json: Json = False) -> None:
    """Plug a cable in again."""
    _order("plug", name, run, as_json)


def down(run: Run = None) -> None:
    """End the lab; `lab up` then judges it and writes the report."""
    desk.order(desk.find(run, RUNS), "down")


def _order(command: str, name: str | None, run: Path | None, as_json: bool) -> None:
    answer = desk.order(desk.find(run, RUNS), command, name=name)
    if as_json:
        print(json.dumps(answer, indent=1))
    else:
        _show(answer)


def _show(told: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("address", "at", "serves"):
        table.add_column(name)
    for address, owners in told["addresses"].items():
        kind = " (virtual)" if address in told["virtual"] else ""
        served = [host for host, found in told["hosts"].items() if address in found]
        table.add_row(address + kind, "+".join(owners) or "no port", " ".join(served))
    _out.print(table)
    without = [host for host, found in told["hosts"].items() if not found]
    if without:
        _out.print(f"without a session: {' '.join(without)}")
    if told["pulled"]:
        _out.print(f"pulled cables: {' '.join(told['pulled'])}")
    _out.print(f"{told['writes']} acknowledged writes so far")
