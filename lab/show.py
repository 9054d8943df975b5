"""Tables for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.table import Table
from rich.text import Text

from lab.scenario import Scenario

_COLOURS = {"pass": "green", "fail": "red", "unknown": "yellow"}


def scenarios_table(scenarios: Iterable[Scenario]) -> Table:
    """The catalogue, a row each."""
    table = Table(box=None, pad_edge=False)
    table.add_column("scenario", style="bold", no_wrap=True)
    table.add_column("what happens")
    for one in scenarios:
        table.add_row(one.name, one.title)
    return table


def results_table(results: Iterable[dict[str, Any]]) -> Table:
    """What was done, which port served before and after, the longest gap, verdict, where to look."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("what was done", "served by", "longest gap in I/O", "verdict"):
        table.add_column(name)
    for result in results:
        verdict = result["verdict"]
        what = Text(result["scenario"], style="bold")
        what.append(f"\n{result['title']}\n", style="not bold")
        what.append(f"{result['folder']}/report.html", style="dim")
        table.add_row(
            what, _served(result), _gap(result), Text(verdict, style=_COLOURS[verdict]),
        )  # fmt: skip
        for check in result["checks"]:
            if check["verdict"] != "pass":
                line = f"  {check['name']}: {check['evidence']}"
                table.add_row(Text(line, style=_COLOURS[check["verdict"]]), "", "", "")
        table.add_section()
    return table


def _served(result: dict[str, Any]) -> str:
    lines = []
    for host, moments in sorted(result.get("served", {}).items()):
        before, after = moments.get("before"), moments.get("after")
        lines.append(f"{host}: {before or '?'} → {after or '?'}")
    return "\n".join(lines)


def _gap(result: dict[str, Any]) -> str:
    stalls = result["measures"].get("stall_ms") or {}
    return "\n".join(f"{host}: {gap:.1f} ms" for host, gap in sorted(stalls.items()))
