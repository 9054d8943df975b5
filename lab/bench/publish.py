"""The files of a failover measurement: figures, a table, and a chart."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from lab.bench.methods import METHODS
from lab.bench.power import PARTS

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _RIGHT, _TOP = 860, 420, 60, 50, 190, 20
_COLOURS = ("#2563c9", "#b35900", "#0f7d6c", "#c2255c", "#6741d9", "#495057", "#0b7285")


def write(folder: Path, found: dict[str, Any]) -> str:
    """Write result.json, table.md and cdf.svg into `folder`, and return the table."""
    (folder / ".work").rmdir()
    (folder / "result.json").write_text(json.dumps(found, indent=1) + "\n")
    table = "\n\n".join(filter(None, [markdown(found), parts(found)]))
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    text = f"{table}\n\nMeasured with `{found['command']}`; {versions}.\n"
    (folder / "table.md").write_text(text)
    samples = {name: one["samples"] for name, one in found["methods"].items()}
    (folder / "cdf.svg").write_text(cdf(samples))
    return table


def markdown(found: dict[str, Any]) -> str:
    """A table with a row for each method: the stall in milliseconds."""
    lines = [
        "| method | min | median | p95 | p99 | max | address moved | survived |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, one in found["methods"].items():
        stall = one["stall_ms"]
        figures = " | ".join(_figure(stall[key]) for key in ("min", "median", "p95", "p99", "max"))
        acted = _figure(one["acted_ms"]) if one["acted_ms"] is not None else "—"
        survived = f"{one['survived']} of {found['trials']}"
        what = one["what"] if "what" in one else METHODS[name].what
        lines.append(f"| {what} | {figures} | {acted} | {survived} |")
    return "\n".join(lines)


def parts(found: dict[str, Any]) -> str:
    """The parts of a power cut's time: a row per part, a column per method, medians in ms."""
    named = {name: one["parts_ms"] for name, one in found["methods"].items() if "parts_ms" in one}
    if not named:
        return ""
    lines = [f"| until | {' | '.join(named)} |", f"|---|{'--:|' * len(named)}"]
    for part, what in PARTS.items():
        figures = (_figure(own[part]) if own[part] is not None else "—" for own in named.values())
        lines.append(f"| {what} | {' | '.join(figures)} |")
    own = (_figure(found["methods"][name]["initiator_ms"] or 0.0) for name in named)
    lines.append(f"| *the host's share: from the move to the first I/O* | {' | '.join(own)} |")
    return "\n".join(lines)


def _figure(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def cdf(samples: dict[str, Sequence[float]]) -> str:
    """The cumulative distribution of the stall for each method, on a logarithmic axis, as SVG."""
    values = [value for found in samples.values() for value in found]
    low = math.floor(math.log10(max(min(values), 0.1)))
    high = math.ceil(math.log10(max(values)))
    high = max(high, low + 1)

    def x(value: float) -> float:
        share = (math.log10(max(value, 0.1)) - low) / (high - low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(share: float) -> float:
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
    ]
    for power in range(low, high + 1):
        at = x(10.0**power)
        label = f"{10**power:g} ms" if power < 3 else f"{10 ** (power - 3):g} s"
        parts.append(f'<path d="M{at:.1f} {_TOP}V{y(0):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{at:.1f}" y="{y(0) + 20:.1f}" text-anchor="middle">{label}</text>')
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<path d="M{_LEFT} {y(share):.1f}H{_WIDTH - _RIGHT}" stroke="#eee"/>')
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    title = "longest gap in completed I/O after the port died"
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">{title}</text>')
    for number, (name, found) in enumerate(samples.items()):
        colour, ordered = _COLOURS[number % len(_COLOURS)], sorted(found)
        path = f"M{x(ordered[0]):.1f} {y(0):.1f}"
        for rank, value in enumerate(ordered, 1):
            path += f"H{x(value):.1f}V{y(rank / len(ordered)):.1f}"
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        row = _TOP + 16 + 20 * number
        parts.append(
            f'<text x="{_WIDTH - _RIGHT + 14}" y="{row}" fill="{colour}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>\n"])
