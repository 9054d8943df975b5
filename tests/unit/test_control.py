"""Negative controls: what counts as caught, and that each check and each observer has one."""

from pathlib import Path

import pytest

from lab.checks import FACTORIES
from lab.errors import BadInput
from lab.run.control import Caught, Control, blinds, fails
from lab.scenarios import catalogue
from lab.suite.selftest import broken_labs, exit_code, markdown

DOCS = Path(__file__).parents[2] / "docs" / "selftest.md"


def finding(name: str, verdict: str) -> dict[str, str]:
    return {"name": name, "verdict": verdict, "evidence": "…"}


FAILS = finding("moved_to(10.0.0.1, p2)", "fail")
PASSES = finding("moved_to(10.0.0.1, p2)", "pass")
BLIND = finding("moved_to(10.0.0.1, p2)", "unknown")
QUIET = finding("kernel_quiet()", "pass")
STALL = finding("stall_below(h1, 1000)", "fail")
LATE = finding("reached()", "fail")
BUSY = BLIND | {"evidence": "The machine was too busy: in 3.0 s of the run … It is on p1."}
BROKE = finding("completed", "unknown")
ALONG = {"stall_below": "its host waits"}


@pytest.mark.parametrize(
    ("control", "findings", "caught"),
    [
        (fails("moved_to"), [FAILS, QUIET], Caught.YES),
        (fails("moved_to(10.0.0.1, p2)"), [FAILS, QUIET], Caught.YES),
        (fails("moved_to"), [PASSES, QUIET], Caught.MISSED),
        (fails("moved_to"), [FAILS, PASSES], Caught.MISSED),  # each of that name must
        (fails("moved_to"), [FAILS, STALL], Caught.MISSED),  # and nothing else
        (fails("moved_to", along=ALONG), [FAILS, STALL], Caught.YES),
        (fails("moved_to", along=ALONG), [FAILS, QUIET], Caught.YES),
        (fails("moved_to", "stall_below"), [FAILS, STALL], Caught.YES),
        (fails("moved_to"), [BLIND, QUIET], Caught.UNJUDGED),
        (fails("moved_to"), [LATE], Caught.UNJUDGED),  # it did not come to that check
        (fails("moved_to"), [], Caught.UNJUDGED),
        (fails("moved_to"), [FAILS, BROKE], Caught.UNJUDGED),
        (fails("moved_to"), [FAILS, finding("kernel_quiet()", "unknown")], Caught.UNJUDGED),
        (blinds("moved_to", cut="x"), [BLIND, QUIET], Caught.YES),
        (blinds("moved_to", cut="x"), [BLIND, BROKE], Caught.YES),  # a broken observer may say so
        (blinds("moved_to", cut="x"), [BUSY, QUIET], Caught.UNJUDGED),  # not by what was cut
        (blinds("moved_to", cut="x"), [PASSES, QUIET], Caught.MISSED),
        (blinds("moved_to", cut="x"), [FAILS, QUIET], Caught.MISSED),
        (blinds("moved_to", cut="x"), [BLIND, STALL], Caught.MISSED),
    ],
)
def test_caught(control, findings, caught):
    found, why = control.judge(findings)
    assert (found, not why) == (caught, caught is Caught.YES), why


@pytest.mark.parametrize("checks", [(), ("moved_too",), ("moved_too(10.0.0.1)",)])
def test_a_control_names_checks(checks):
    with pytest.raises(BadInput):
        Control(checks)


def test_what_fails_along_is_a_check_too():
    with pytest.raises(BadInput, match="stal_below"):
        fails("moved_to", along={"stal_below": "…"})


@pytest.mark.parametrize(
    ("results", "code"),
    [
        ([Caught.YES], 0),
        ([Caught.YES, Caught.MISSED, Caught.UNJUDGED], 1),
        ([Caught.YES, Caught.UNJUDGED], 4),
    ],
)
def test_exit_code(results, code):
    assert exit_code(results) == code


CONTROLS = {one.name: control for one, control in broken_labs()}


@pytest.mark.parametrize("name", FACTORIES)
def test_each_check_has_a_broken_lab_in_which_it_fails(name):
    assert [one for one, c in CONTROLS.items() if name in c.factories and c.verdict == "fail"]


def test_each_family_of_checks_has_a_quick_one():
    quick = {name for c in CONTROLS.values() if c.quick for name in c.factories}
    families = {make.__module__ for make in FACTORIES.values()}
    assert families == {FACTORIES[name].__module__ for name in quick}


def test_each_observer_that_a_check_needs_has_its_evidence_cut():
    """By the checks that must be unknown then: each names the sources that it needs."""
    arguments = {"moved_to": ("a",), "stall_below": ("h1", 1.0), "redirected_at_login": ("h1", "v")}
    sources: set[str] = set()
    for control in CONTROLS.values():
        if control.cut:
            for name in control.factories:
                made = FACTORIES[name](*arguments.get(name, ()) or _least(name))
                sources |= {source for source, _ in made.needs}
                sources |= {"console"} if name == "kernel_quiet" else set()
    # No check needs "machine": without its word a fail stays a fail. What the controller says is
    # judged by what it says: its death, its start and that it has settled.
    assert sources == {"addresses", "capture", "decoder", "console", "clock", "load", "swaps"}


def _least(name: str) -> tuple[str, ...]:
    return ("h1",) if name in ("no_io_errors", "no_lost_writes") else ()


def test_a_broken_lab_is_not_listed():
    assert not [one.name for one in catalogue().values() if one.control and one.listed]
    unlisted = {n for n, one in catalogue().items() if not one.listed} - {"by-hand"}
    assert unlisted == set(CONTROLS)


def test_the_document_has_the_table_of_the_code():
    assert markdown(broken_labs()) in DOCS.read_text(), "lab selftest --list prints it"
