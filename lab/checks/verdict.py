"""Verdicts and findings, and the decorator that makes checks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ParamSpec

from lab.timeline import Timeline

P = ParamSpec("P")


class Verdict(StrEnum):
    """The result of a check; without evidence it is `unknown`, never `pass`."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """The result of one check; `evidence` is a sentence or two with the figures behind it."""

    name: str
    verdict: Verdict
    evidence: str

    def as_json(self) -> dict[str, str]:
        """The finding as result.json holds it."""
        return {"name": self.name, "verdict": str(self.verdict), "evidence": self.evidence}


Answer = tuple[Verdict, str]
Check = Callable[[Timeline], Finding]
"""A pure function from a timeline to a finding; the checks of this package have a `name`."""

Look = Callable[[Timeline], Answer]
"""The function that a factory of checks returns: it judges a timeline."""

FACTORIES: dict[str, Callable[..., Check]] = {}
"""All checks, by the name of their factory."""


@dataclass(frozen=True)
class NamedCheck:
    """A check with a name, so that a report can name it even if it raises."""

    name: str
    look: Look

    def __call__(self, timeline: Timeline) -> Finding:
        """The finding of this check on `timeline`."""
        return Finding(self.name, *self.look(timeline))


def _shown(value: object) -> str:
    if isinstance(value, AbstractSet):
        return "|".join(sorted(str(v) for v in value))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "|".join(str(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def check(factory: Callable[P, Look]) -> Callable[P, NamedCheck]:
    """Turn a function that returns a look at a timeline into a factory of named checks.

    The name is the call as written, `stall_below(h1, 60)`. Each factory of lab/checks needs an
    example that fails in tests/unit/test_checks.py.
    """

    @functools.wraps(factory)
    def make(*args: P.args, **kwargs: P.kwargs) -> NamedCheck:
        given = [_shown(a) for a in args]
        given += [f"{k}={_shown(v)}" for k, v in kwargs.items() if v is not None]
        return NamedCheck(f"{factory.__name__}({', '.join(given)})", factory(*args, **kwargs))

    FACTORIES[factory.__name__] = make
    return make


def passed(evidence: str) -> Answer:
    """The answer that the check holds."""
    return Verdict.PASS, evidence


def failed(evidence: str) -> Answer:
    """The answer that the check does not hold."""
    return Verdict.FAIL, evidence


def unknown(evidence: str) -> Answer:
    """The answer that the timeline has too little evidence."""
    return Verdict.UNKNOWN, evidence


def judge(timeline: Timeline, checks: Iterable[Check]) -> list[Finding]:
    """The finding of each check; a check that raises gives `unknown` with the reason."""
    findings = []
    for one in checks:
        try:
            findings.append(one(timeline))
        except Exception as broken:
            name = getattr(one, "name", getattr(one, "__name__", repr(one)))
            reason = f"The check could not read the timeline: {type(broken).__name__}: {broken}."
            findings.append(Finding(str(name), Verdict.UNKNOWN, reason))
    return findings


def overall(findings: Sequence[Finding] | Sequence[Mapping[str, Any]]) -> Verdict:
    """Fail if any finding fails; else unknown if any is unknown or there is none; else pass."""
    verdicts = {Verdict(f.verdict if isinstance(f, Finding) else f["verdict"]) for f in findings}
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    return Verdict.PASS if verdicts == {Verdict.PASS} else Verdict.UNKNOWN
