"""A negative control: what the checks must find in a lab that is broken on purpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from lab.checks import FACTORIES, Verdict
from lab.checks.evidence import TOO_BUSY
from lab.errors import BadInput, unknown


class Caught(StrEnum):
    """How a broken lab was judged."""

    YES = "caught"
    MISSED = "missed"
    """A check that had to find it did not, or another one was not at pass."""
    UNJUDGED = "not judged"
    """The lab did not come to the point where a check could find it."""


@dataclass(frozen=True)
class Control:
    """The checks of a broken lab that must not pass: each of `checks` must have `verdict`.

    A check is named by its factory, "moved_to", or with its arguments, "session_survived(h2)".
    `along`: others that may not pass either, and why they cannot. All others must pass. `quick`:
    part of `lab selftest --quick`. `cut`: whose evidence is cut, if the verdict is unknown.
    """

    checks: tuple[str, ...]
    verdict: Verdict = Verdict.FAIL
    along: Mapping[str, str] = field(default_factory=dict)
    quick: bool = False
    cut: str = ""

    def __post_init__(self) -> None:
        for name in (*self.checks, *self.along):
            if _factory(name) not in FACTORIES:
                raise unknown("check", name, FACTORIES)
        if not self.checks:
            raise BadInput("a control must name the checks that find it")

    @property
    def factories(self) -> tuple[str, ...]:
        """The names of the checks that find it, without arguments."""
        return tuple(dict.fromkeys(_factory(name) for name in self.checks))

    def judge(self, findings: Sequence[Mapping[str, Any]]) -> tuple[Caught, str]:
        """Whether the checks of a run found it, and what is wrong if not.

        `findings` are those of its result.json.
        """
        asked = {name: [f for f in findings if _means(name, f["name"])] for name in self.checks}
        if not all(asked.values()):
            others = " ".join(f"{f['name']} is {f['verdict']}: {f['evidence']}" for f in findings)
            return Caught.UNJUDGED, f"It did not come to {', '.join(self.checks)}. {others}"
        wrong, unjudged = [], []
        for said in asked.values():
            for one in said:
                found = Verdict(one["verdict"])
                text = f"{one['name']} is {found}, not {self.verdict}: {one['evidence']}"
                busy = one["evidence"].startswith(TOO_BUSY)
                if found is Verdict.UNKNOWN and (busy or self.verdict is not found):
                    unjudged.append(text)
                elif found is not self.verdict:
                    wrong.append(text)
        expected = (*self.checks, *self.along)
        for one in findings:
            if one["verdict"] != Verdict.PASS and not any(_means(n, one["name"]) for n in expected):
                if self.cut and one["name"] == "completed":
                    continue  # a broken observer may say so at the end of the lab as well
                also = unjudged if one["verdict"] == Verdict.UNKNOWN else wrong
                also.append(f"also {one['name']} is {one['verdict']}: {one['evidence']}")
        said_wrong = " ".join([*wrong, *unjudged])
        if wrong:
            return Caught.MISSED, said_wrong
        return (Caught.UNJUDGED, said_wrong) if unjudged else (Caught.YES, "")


def _factory(name: str) -> str:
    return name.partition("(")[0]


def _means(name: str, finding: str) -> bool:
    return finding == name or _factory(finding) == name


def fails(*checks: str, along: Mapping[str, str] | None = None, quick: bool = False) -> Control:
    """A control that `checks` must fail; see Control."""
    return Control(checks, along=along or {}, quick=quick)


def blinds(
    *checks: str, cut: str, along: Mapping[str, str] | None = None, quick: bool = False
) -> Control:
    """A control that cuts the evidence of the observer `cut`: `checks` must be unknown."""
    return Control(checks, Verdict.UNKNOWN, along or {}, quick, cut)
