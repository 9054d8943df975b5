"""The report of a run: one self-contained HTML file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from lab.checks import Verdict
from lab.errors import BadInput
from lab.report.chart import MOST_GAPS, SHOWN_GAP_MS, draw
from lab.report.run import Run
from lab.report.story import MEANINGS, MOST_FAULTS, figures, sentences, steps
from lab.timeline import Timeline

_ORDER = (Verdict.FAIL, Verdict.UNKNOWN, Verdict.PASS)
_USUAL: dict[str, Any] = {
    "scenario": "",
    "description": "",
    "command": "",
    "checks": [],
    "measures": {},
    "versions": {},
}
BEFORE_FAULT = 0.1
AFTER_FAULT = 0.3
STALL_FOLLOWS = 2.0
"""A stall that begins within so many seconds of a fault counts as caused by it."""


def write_report(run_dir: Path) -> Path:
    """Write `report.html` from the result.json and timeline.jsonl of a run folder.

    Raises BadInput where result.json is missing or is not the object that DESIGN.md describes. A
    folder without a timeline gives a report without one.
    """
    result = _result(run_dir / "result.json")
    path = run_dir / "timeline.jsonl"
    run = Run(result, Timeline.read(path) if path.exists() else Timeline())
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lab.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        result=result,
        verdict=result["verdict"],
        meaning=MEANINGS[Verdict(result["verdict"])],
        checks=sorted(result["checks"], key=lambda c: _ORDER.index(c["verdict"])),
        sentences=sentences(run),
        figures=figures(run),
        overview=draw(run, run.begin, run.end) if run.end > run.begin else None,
        closer=_closer(run),
        files=_files(run_dir),
        facts=_facts(result),
    )
    report = run_dir / "report.html"
    report.write_text(page, encoding="utf-8")
    return report


def _result(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist; a run writes it when it ends") from None
    except (OSError, ValueError) as bad:
        raise BadInput(f"{path} cannot be read: {bad}") from bad
    if not isinstance(result, dict) or result.get("verdict") not in set(Verdict):
        raise BadInput(f"{path} has no verdict of pass, fail or unknown")
    return {**_USUAL, **result}


def _closer(run: Run) -> list[dict[str, Any]]:
    """A chart around each fault, wide enough for the stall that it caused."""
    found = []
    for fault in run.faults[:MOST_FAULTS]:
        stalls = [
            gap.end - fault.begin
            for gaps in run.gaps.values()
            for gap in gaps[:MOST_GAPS]
            if gap.ms >= SHOWN_GAP_MS and gap.end > fault.begin > gap.start - STALL_FOLLOWS
        ]
        after = max(AFTER_FAULT, 1.5 * max(stalls, default=0.0))
        begin, end = fault.begin - BEFORE_FAULT, min(fault.begin + after, run.end)
        if end > begin:
            chart = draw(run, begin, end, origin=fault.begin, labels=True)
            found.append({"fault": fault, "chart": chart, "steps": steps(run, fault, end)})
    return found


def _facts(result: dict[str, Any]) -> list[tuple[str, str]]:
    names = ("topology", "target", "initiator", "release", "started", "duration_s", "seed")
    facts = [(name.replace("_s", " (s)"), str(result[name])) for name in names if name in result]
    return facts + [(str(name), str(value)) for name, value in result["versions"].items()]


def _files(run_dir: Path) -> list[tuple[str, str]]:
    """Relative link and size of each file of the run, except disks and the report."""
    found = [run_dir / "result.json", run_dir / "timeline.jsonl"]
    found += [f for folder in ("pcap", "logs") for f in sorted((run_dir / folder).rglob("*"))]
    return [
        (quote(str(f.relative_to(run_dir))), f"{f.stat().st_size / 1024:,.0f} KiB")
        for f in found
        if f.is_file()
    ]
