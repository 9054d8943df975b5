"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab.host import initiator as initiators
from lab.run.scenario import Scenario
from targets import engines

_COLOURS = {"pass": "green", "fail": "red", "unknown": "yellow"}


def scenarios_table(scenarios: Iterable[Scenario]) -> Table:
    """A table with a row for each scenario."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("scenario", style="bold", no_wrap=True)
    table.add_column("what happens")
    table.add_column("only with")
    for one in scenarios:
        table.add_row(Text(one.name), Text(one.title), Text(_only_with(one)))
    return table


def _only_with(one: Scenario) -> str:
    """The engines and initiators that it can be run with, where there are others."""
    kinds = ((one.targets, engines.ENGINES), (one.initiators, initiators.INITIATORS))
    return ", ".join(" or ".join(able) for able, there in kinds if len(able) < len(there))


def print_results(console: Console, results: Sequence[dict[str, Any]]) -> None:
    """Print a row for each run: scenario, serving ports, longest gap, verdict.

    The checks that did not pass follow with their evidence, then the reports.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("what was done", "served by", "longest gap", "verdict"):
        table.add_column(name)
    for result in results:
        table.add_row(
            Text(result["scenario"], style="bold", no_wrap=True),
            _served(result),
            _gap(result),
            Text(result["verdict"], style=_COLOURS[result["verdict"]]),
        )
    console.print(table)
    console.print()
    for result in results:
        for check in result["checks"]:
            if check["verdict"] != "pass":
                line = Text(f"{result['scenario']}: ", style="bold")
                line.append(f"{check['name']} {check['verdict']}: ", _COLOURS[check["verdict"]])
                line.append(check["evidence"], "not bold")
                console.print(line)
    for result in results:
        where = f"{result['title']}\n  {result['folder']}/report.html"
        console.print(where, soft_wrap=True, markup=False)


def _served(result: dict[str, Any]) -> str:
    """The serving port of each host, before and after: "h1: p1 → p2", "h2: p3"."""
    lines = []
    for host, seen in sorted(result.get("served", {}).items()):
        moments = [seen[m] for m in ("before", "after") if m in seen] or [*seen.values()]
        lines.append(f"{host}: " + " → ".join(moment.split(" (")[0] for moment in moments))
    return "\n".join(lines) or "—"


def _gap(result: dict[str, Any]) -> str:
    stalls = result["measures"].get("stall_ms") or {}
    return "\n".join(_duration(gap) for _, gap in sorted(stalls.items())) or "—"


def _duration(milliseconds: float) -> str:
    if milliseconds < 1000:
        return f"{milliseconds:.1f} ms"
    return f"{milliseconds / 1000:.2f} s"
