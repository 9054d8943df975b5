"""Checks: for each an example that it passes, one that it fails, and one without evidence."""

import copy
import time
from itertools import pairwise

import pytest
from access_examples import EXAMPLES as ACCESS
from evidence_events import all_seen
from fault_examples import BACK, DIED, DOWN, FLAPPED, KILLED
from fault_examples import EXAMPLES as FAULTS
from hypothesis import given
from hypothesis import strategies as st
from identity_examples import EXAMPLES as IDENTITY
from request_examples import EXAMPLES as REQUESTS
from session_events import (
    CONSOLE,
    LOGINS,
    MESSAGE,
    MOVE,
    P1,
    P2,
    P3,
    READ_BACK,
    SESSIONS,
    SPREAD,
    STEADY,
    VERIFIED,
    VIRTUAL,
    address,
    but,
    event,
    io,
    load,
    login,
)
from session_examples import EXAMPLES as OTHERS
from swap_examples import EXAMPLES as SWAPS

from lab import checks
from lab.checks import Finding, Verdict, judge, measures, overall
from lab.checks.disk import gaps, longest_gap
from lab.portal import ip_of
from lab.timeline import Timeline

EXAMPLES = OTHERS | REQUESTS | FAULTS | ACCESS | IDENTITY | SWAPS

CASES = [
    pytest.param(name, args, verdict, events, id=f"{name}-{verdict}-{n}")
    for name, (args, examples) in EXAMPLES.items()
    for verdict, given_events in examples.items()
    for n, events in enumerate(given_events)
]


def timeline_of(*events):
    timeline = Timeline()
    timeline.extend(copy.deepcopy(list(events)))
    return timeline


@pytest.mark.parametrize(("name", "args", "verdict", "events"), CASES)
def test_example(name, args, verdict, events):
    one = checks.FACTORIES[name](*args)
    (finding,) = judge(timeline_of(*all_seen(one), *events), [one])
    assert (finding.verdict, finding.name[: len(name)]) == (verdict, name), finding.evidence
    assert finding.evidence.endswith(".") or name == "kernel_quiet"


def test_every_check_has_an_example_of_each_verdict():
    assert set(EXAMPLES) == set(checks.FACTORIES)
    for _, examples in EXAMPLES.values():
        assert all(examples[verdict] for verdict in ("pass", "fail", "unknown"))
    assert set(checks.FACTORIES) <= set(checks.__all__)


def test_the_name_is_the_call():
    assert checks.stall_below("h1", 60).name == "stall_below(h1, 60)"
    assert checks.served_at("h1", {P3, P2}, "after").name == f"served_at(h1, {P2}|{P3}, after)"
    assert checks.moved_to(VIRTUAL, away_from="p1").name == f"moved_to({VIRTUAL}, away_from=p1)"


def test_moved_away():
    assert checks.moved_to(VIRTUAL, away_from="p1")(timeline_of(*MOVE)).verdict == "pass"
    assert checks.moved_to(VIRTUAL, away_from="p2")(timeline_of(*MOVE)).verdict == "fail"


def test_deaths_in_the_midst_of_a_move_are_told_from_others():
    look = checks.controller_restarted(1, moving=1)
    assert [look(timeline_of(*events)).verdict for events in (DIED, KILLED)] == ["pass", "fail"]


def test_what_a_kernel_is_expected_to_say():
    said = event(3, "h1", "kernel-message", line="sda: I/O error, dev sda, sector 8")
    look = checks.kernel_quiet(but="I/O error")
    assert look(timeline_of(*CONSOLE, said)).verdict == "pass"
    assert look(timeline_of(*CONSOLE, said, MESSAGE)).verdict == "fail"


def test_how_a_session_of_libiscsi_was_carried():
    logins = [login(t, P1, "0x0000") | {"isid": isid} for t, isid in ((1, "80aa"), (2, "80bb"))]
    of = event(0, "lab", "config", initiator="libiscsi")
    look = checks.session_survived("h1")
    finding = look(timeline_of(*SESSIONS, *logins, of))
    assert finding.verdict == "pass"
    assert finding.evidence.endswith("QEMU has open; ISIDs that logged in: 80aa, 80bb.")
    assert "QEMU" not in look(timeline_of(*SESSIONS, *logins)).evidence
    gone = but(SESSIONS, "session", 1, state="FAILED")
    assert look(timeline_of(*gone, of)).verdict == "fail"


def test_a_port_that_has_gone_does_not_count_when_spreading():
    only = checks.sessions_spread({"p1", "p2"})
    assert only(timeline_of(*SPREAD)).verdict == "pass"
    assert checks.sessions_spread({"p1", "p3"})(timeline_of(*SPREAD)).verdict == "fail"


def test_a_session_belongs_to_the_port_that_took_its_address():
    taken = [address(0, "p2", ip=P2), address(0.5, "p2", "del", P2), address(0.5, "p3", ip=P2)]
    one = checks.sessions_spread()
    (finding,) = judge(timeline_of(*all_seen(one), *SPREAD, *taken), [one])
    assert finding.verdict == "pass"
    assert "p3 1" in finding.evidence


def test_a_check_that_breaks_is_unknown_and_the_others_are_judged():
    def broken(_):
        raise KeyError("nothing")

    first, second = judge(timeline_of(*STEADY), [broken, checks.reached()])
    assert (first.name, first.verdict, second.verdict) == ("broken", "unknown", "pass")
    assert "KeyError" in first.evidence
    malformed = timeline_of(*but(STEADY, "io", status=...))
    assert judge(malformed, [checks.stall_below("h1", 1)])[0].verdict == "unknown"


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], "unknown"),
        (["pass"], "pass"),
        (["pass", "unknown"], "unknown"),
        (["unknown", "fail", "pass"], "fail"),
    ],
)
def test_overall(verdicts, expected):
    findings = [Finding("x", Verdict(v), "") for v in verdicts]
    assert overall(findings) == expected
    assert overall([f.as_json() for f in findings]) == expected


@pytest.mark.parametrize(
    ("text", "ip"),
    [
        ("10.0.0.1:3260", "10.0.0.1"),
        ("10.0.0.1:3260,1", "10.0.0.1"),
        ("10.0.0.1/24", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.1"),
        ("[fd00::1]:3260,1", "fd00::1"),
        ("fd00:0::1/64", "fd00::1"),
        ("array.example:3260", "array.example"),
    ],
)
def test_the_address_in_a_portal(text, ip):
    assert ip_of(text) == ip


def test_measures():
    fault = event(5, "p1", "fault", name="carrier-loss", phase="begin")
    found = measures(
        timeline_of(*STEADY, *READ_BACK, VERIFIED, fault, *MOVE, *LOGINS, io(0.35, "EIO"))
    )
    assert found == {
        "stall_ms": {"h1": pytest.approx(100)},
        "iops": {"h1": 9.0},
        "acked_writes": 9,
        "io_errors": 1,
        "lost_writes": 0,
        "torn_writes": 0,
        "logins": 2,
        "address_move_ms": {VIRTUAL: pytest.approx(20)},
        "clocks_within_ms": 0.0,
    }


def test_measures_of_nothing():
    found = measures(timeline_of())
    assert (found["lost_writes"], found["stall_ms"], found["address_move_ms"]) == (None, {}, {})


def test_a_long_run_is_judged_quickly():
    events = [*load(0, 200), *[io(n / 1000, block=n) for n in range(200_000)]]
    timeline = timeline_of(*events)
    began = time.perf_counter()
    judge(timeline, [checks.stall_below("h1", 60), checks.no_io_errors("h1")])
    measures(timeline)
    assert time.perf_counter() - began < 5


# --- properties of the stall -------------------------------------------------------------------

times = st.lists(st.integers(min_value=-50, max_value=1050), max_size=60)


@given(times)
def test_gaps_fill_the_interval_without_overlap(points):
    found = gaps(points, 0, 1000)
    assert sum(g.end - g.start for g in found) == 1000
    assert all(a.end == b.start for a, b in pairwise(found))
    assert all(g.end >= g.start for g in found)


@given(times)
def test_nothing_completed_within_a_gap(points):
    for gap in gaps(points, 0, 1000):
        assert not any(gap.start < p < gap.end for p in points)


@given(times, st.integers(min_value=0, max_value=1000))
def test_one_more_completion_never_makes_the_longest_gap_longer(points, more):
    longest = max(g.ms for g in gaps(points, 0, 1000))
    assert max(g.ms for g in gaps([*points, more], 0, 1000)) <= longest


@given(times)
def test_the_longest_gap_is_what_a_plain_walk_finds(points):
    timeline = timeline_of(*load(0, 1000), *[io(p) for p in points])
    last, longest = 0, 0
    for now in sorted([*[p for p in points if 0 <= p <= 1000], 1000]):
        longest, last = max(longest, now - last), now
    assert longest_gap(timeline, "h1").ms == pytest.approx(longest * 1000)


@given(times, st.randoms())
def test_the_order_of_arrival_does_not_matter(points, random):
    shuffled = list(points)
    random.shuffle(shuffled)
    assert gaps(points, 0, 1000) == gaps(shuffled, 0, 1000)


def test_moves_are_counted_up_to_the_moment_that_the_scenario_marks():
    """The port that flapped is up again at 7; at 8.1, after its hold time, its address goes home,
    as it should, while the host still reads its blocks back."""
    once = checks.moved_times(VIRTUAL, 1, until=FLAPPED["name"])
    assert once(timeline_of(*BACK, FLAPPED)).verdict == "pass"
    assert once(timeline_of(*BACK, {**FLAPPED, "t": 9})).verdict == "fail"
    assert once(timeline_of(*BACK)).verdict == "unknown"
    assert once.name == f"moved_times({VIRTUAL}, 1, until=the port stays up)"


def test_what_goes_home_at_the_take_down_has_moved_all_the_same():
    assert checks.moved_to(VIRTUAL, "p2")(timeline_of(*BACK, DOWN)).verdict == "pass"
    assert checks.moved_to(VIRTUAL, "p2")(timeline_of(*BACK)).verdict == "fail"


def test_who_is_asked_at_the_take_down_need_not_follow():
    name, (args, examples) = "asked_then_moved", REQUESTS["asked_then_moved"]
    good = examples["pass"][0]
    end = max(e["t"] for e in good)
    asked = next(e for e in good if e["kind"] == "async")
    later = [*good, {"t": end + 1, "where": "lab", "kind": "moment", "name": "take-down"},
             {**asked, "t": end + 2}]  # fmt: skip
    assert checks.FACTORIES[name](*args)(timeline_of(*later)).verdict == "pass"


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ("10.0.0.1:abc", "10.0.0.1"),
        ("10.0.0.1:", "10.0.0.1"),
        ("10.0.0.1:99999", "10.0.0.1"),
        ("[fd00::1]:0", "fd00::1"),
        ("[fd00::1]:65536,1", "fd00::1"),
        ("[fd00::1", "fd00::1"),
        ("array.example:3260", "array.example"),
    ],
)
def test_a_malformed_portal_keeps_its_address(told, meant):
    """Hosts follow such answers, so a check must not take the address for another one."""
    assert ip_of(told) == meant
    assert ip_of(ip_of(told)) == meant
