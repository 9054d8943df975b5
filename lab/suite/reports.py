"""The reports of a suite: suite.json, Markdown for a job's page, an HTML index, and KTAP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import jinja2

from lab.suite.records import Outcome, Suite

_SLOWEST = 5


def write(suite: Suite, ktap: bool = False) -> None:
    """Write all reports of `suite` into its folder."""
    outcomes = suite.outcomes()
    suite.write(
        outcomes=[
            {"id": one.cell.id, "verdict": one.verdict, "tries": [asdict(t) for t in one.tries]}
            for one in outcomes
        ],
        counts=counts(outcomes),
    )
    (suite.folder / "summary.md").write_text(markdown(suite, outcomes))
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lab.suite", "."), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    page = environment.get_template("index.html.j2").render(
        outcomes=outcomes, absent=suite.absent, counts=counts(outcomes)
    )
    (suite.folder / "index.html").write_text(page, encoding="utf-8")
    if ktap:
        (suite.folder / "suite.ktap").write_text(as_ktap(suite, outcomes))


def counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many cells have each verdict."""
    return dict(Counter(one.verdict or "not run" for one in outcomes))


def markdown(suite: Suite, outcomes: Sequence[Outcome]) -> str:
    """A matrix of scenarios and setups, what did not pass with its evidence, and the slowest."""
    said = ", ".join(f"{n} {verdict}" for verdict, n in sorted(counts(outcomes).items()))
    setups = list(dict.fromkeys(_setup(one) for one in outcomes))
    lines = [f"## failover-lab: {said}", "", f"| scenario | {' | '.join(setups)} |"]
    lines.append("|---" * (len(setups) + 1) + "|")
    for name in dict.fromkeys(one.cell.scenario for one in outcomes):
        row = []
        for setup in setups:
            here = [o for o in outcomes if o.cell.scenario == name and _setup(o) == setup]
            row.append(", ".join(f"{n} {v}" if n > 1 else v for v, n in counts(here).items()))
        lines.append(f"| {name} | {' | '.join(row)} |")
    for verdict in ("fail", "flaky", "unknown", "missing", "bad-input"):
        these = [one for one in outcomes if one.verdict == verdict]
        if these:
            lines += ["", f"### {verdict}", ""]
            lines += [f"* `{one.cell.id}`: {_one_line(one.why)}" for one in these]
    done = sorted((o for o in outcomes if o.tries), key=lambda o: -o.tries[-1].seconds)
    lines += ["", "### slowest", ""]
    lines += [f"* `{one.cell.id}`: {one.tries[-1].seconds:.1f} s" for one in done[:_SLOWEST]]
    if suite.absent:
        lines += ["", f"{len(suite.absent)} cells do not exist; `lab suite list` says why."]
    return "\n".join(lines) + "\n"


def as_ktap(suite: Suite, outcomes: Sequence[Outcome]) -> str:
    """The outcomes as KTAP (docs.kernel.org/dev-tools/ktap.html); unknown is not ok."""
    lines = ["KTAP version 1", f"1..{len(outcomes) + len(suite.absent)}"]
    for number, one in enumerate(outcomes, 1):
        lines += [f"# {line}" for line in one.why.splitlines() if one.verdict != "pass"]
        ok = "ok" if one.verdict == "pass" else "not ok"
        said = "" if one.verdict in ("pass", "fail") else f" # {one.verdict or 'not run'}"
        lines.append(f"{ok} {number} {one.cell.id}{said}")
    for number, absent in enumerate(suite.absent, len(outcomes) + 1):
        lines.append(f"ok {number} {absent.cell.id} # SKIP {_one_line(absent.reason)}")
    return "\n".join(lines) + "\n"


def _setup(one: Outcome) -> str:
    cell = one.cell
    return ", ".join(filter(None, (cell.target, cell.initiator, cell.release, cell.topology)))


def _one_line(text: str) -> str:
    return " ".join(text.split())
