"""Verdicts and findings, and the decorator that makes checks."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ParamSpec, overload

from lab.checks.evidence import Need, machine_busy, missing
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
    """A check with a name, so that a report can name it even if it raises.

    `needs` is the evidence without which it cannot pass. `timed`: what is late fails it, so on a
    busy machine its fail means nothing.
    """

    name: str
    look: Look
    needs: tuple[Need, ...] = ()
    timed: bool = False

    def __call__(self, timeline: Timeline) -> Finding:
        """The finding of this check on `timeline`."""
        return Finding(self.name, *self.look(timeline))


def _shown(value: object) -> str:
    if isinstance(value, AbstractSet):
        return "|".join(sorted(str(v) for v in value))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "|".join(str(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


@overload
def check(factory: Callable[P, Look], /) -> Callable[P, NamedCheck]: ...


@overload
def check(
    *, sees: Sequence[str] = (), timed: bool = False
) -> Callable[[Callable[P, Look]], Callable[P, NamedCheck]]: ...


def check(
    factory: Callable[P, Look] | None = None, /, *, sees: Sequence[str] = (), timed: bool = False
) -> Callable[P, NamedCheck] | Callable[[Callable[P, Look]], Callable[P, NamedCheck]]:
    """Turn a function that returns a look at a timeline into a factory of named checks.

    The name is the call as written, `stall_below(h1, 60)`. Each factory of lab/checks needs an
    example that fails in tests/unit/test_checks.py. `sees`: the sources of evidence (lab.evidence)
    that must be whole for a pass; "capture of host" is that of the place which the factory's
    argument `host` names. `timed`: its fail is unknown if the machine was too busy.
    """
    if factory is None:
        return lambda made: _checks(made, sees, timed)
    return _checks(factory, sees, timed)


def _checks(
    factory: Callable[P, Look], sees: Sequence[str], timed: bool
) -> Callable[P, NamedCheck]:
    signature = inspect.signature(factory)

    @functools.wraps(factory)
    def make(*args: P.args, **kwargs: P.kwargs) -> NamedCheck:
        given = [_shown(a) for a in args]
        given += [f"{k}={_shown(v)}" for k, v in kwargs.items() if v is not None]
        bound = signature.bind(*args, **kwargs).arguments
        needs = tuple(_need(one, bound) for one in sees)
        name = f"{factory.__name__}({', '.join(given)})"
        return NamedCheck(name, factory(*args, **kwargs), needs, timed)

    FACTORIES[factory.__name__] = make
    return make


def _need(told: str, arguments: Mapping[str, Any]) -> Need:
    source, _, argument = told.partition(" of ")
    return source, str(arguments[argument]) if argument else None


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
    """The finding of each check, by the evidence there is.

    A pass is `unknown` if the evidence that the check needs has a gap; a fail of a `timed` check is
    `unknown` if the machine was too busy; a check that raises gives `unknown` with the reason.
    """
    findings = []
    for one in checks:
        try:
            found = one(timeline)
            findings.append(
                _weighed(timeline, one, found) if isinstance(one, NamedCheck) else found
            )
        except Exception as broken:
            name = getattr(one, "name", getattr(one, "__name__", repr(one)))
            reason = f"The check could not read the timeline: {type(broken).__name__}: {broken}."
            findings.append(Finding(str(name), Verdict.UNKNOWN, reason))
    return findings


def _weighed(timeline: Timeline, one: NamedCheck, found: Finding) -> Finding:
    why = None
    if found.verdict is Verdict.PASS:
        why = missing(timeline, one.needs)
    elif found.verdict is Verdict.FAIL and one.timed:
        why = machine_busy(timeline)
    return Finding(one.name, Verdict.UNKNOWN, f"{why} {found.evidence}") if why else found


def overall(findings: Sequence[Finding] | Sequence[Mapping[str, Any]]) -> Verdict:
    """Fail if any finding fails; else unknown if any is unknown or there is none; else pass."""
    verdicts = {Verdict(f.verdict if isinstance(f, Finding) else f["verdict"]) for f in findings}
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    return Verdict.PASS if verdicts == {Verdict.PASS} else Verdict.UNKNOWN
