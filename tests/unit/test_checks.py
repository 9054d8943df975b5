"""Checks: for each an example that it passes, one that it fails, and one without evidence."""

import copy
import time
from itertools import pairwise

import pytest
from access_examples import EXAMPLES as ACCESS
from fault_examples import DIED, KILLED
from fault_examples import EXAMPLES as FAULTS
from hypothesis import given
from hypothesis import strategies as st
from identity_examples import EXAMPLES as IDENTITY
from request_examples import EXAMPLES as REQUESTS

from lab import checks
from lab.checks import Finding, Verdict, judge, measures, overall
from lab.checks.disk import gaps, longest_gap
from lab.checks.portals import ip_of
from lab.timeline import Timeline

VIRTUAL, P1, P2, P3 = "10.0.0.1", "10.0.0.11", "10.0.0.12", "10.0.0.13"
IQN = "iqn.2026-01.example.lab:disk"
MACS = {"p1": "02:00:00:00:00:11", "p2": "02:00:00:00:00:12", "p3": "02:00:00:00:00:13"}


def event(t, where, kind, **details):
    return {"t": t, "where": where, "kind": kind, **details}


def timeline_of(*events):
    timeline = Timeline()
    timeline.extend(copy.deepcopy(list(events)))
    return timeline


def but(events, kind, nth=0, **changes):
    """`events` with the nth event of `kind` changed; a value of `...` removes the key."""
    changed = copy.deepcopy(events)
    found = [e for e in changed if e["kind"] == kind][nth]
    for key, value in changes.items():
        if value is ...:
            del found[key]
        else:
            found[key] = value
    return changed


def session(t, moment, host="h1", **changes):
    about = {
        "target": IQN,
        "sid": 1,
        "current": f"{P2}:3260",
        "persistent": f"{VIRTUAL}:3260",
        "state": "LOGGED_IN",
        "device": "sda",
        "serial": "lab0001",
        "size_bytes": 1 << 20,
        "connection": f"10.0.0.101:51234 {P2}:3260",
        "moment": moment,
    }
    return event(t, host, "session", **{**about, **changes})


def io(t, status="ok", op="write", block=0, host="h1"):
    return event(t, host, "io", op=op, seq=1, block=block, start=t - 0.001, status=status)


def load(begin, end, host="h1"):
    return [
        event(t, host, "load", phase=phase, name="writer")
        for t, phase in ((begin, "begin"), (end, "end"))
        if t is not None
    ]


def login(t, portal=VIRTUAL, status="0x0101", to=f"{P2}:3260", host="h1"):
    return event(
        t,
        host,
        "login",
        portal=f"{portal}:3260",
        status=status,
        target_address=to,
        isid="00023d000001",
        source="wire",
    )


def address(t, port, op="add", ip=VIRTUAL):
    return event(t, port, "address", address=ip, op=op, source="kernel")


def claim(t, mac, kind="announcement", ip=VIRTUAL):
    return event(t, "h1", kind, address=ip, mac=mac, source="wire")


CONFIG = event(
    0, "lab", "config", virtual=[VIRTUAL], ports={"p1": [P1], "p2": [P2], "p3": [P3]}, macs=MACS
)
FAULT = event(5, "p2", "fault", name="carrier-loss", phase="begin")
SESSIONS = [session(1, "before"), session(9, "after")]
STEADY = [*load(0, 1), *[io(n / 10, block=n) for n in range(1, 10)]]
VERIFIED = event(2, "h1", "verified", blocks=9, lost=[], torn=[])
LOGINS = [login(0.1), login(0.2, P2, "0x0000", None)]
MOVE = [
    CONFIG,
    address(0, "p1"),
    address(5.01, "p1", "del"),
    address(5.02, "p2"),
    claim(5.03, MACS["p2"]),
]
DISCOVERY = event(0, "h1", "discovery", asked=f"{VIRTUAL}:3260", portals=[f"{VIRTUAL}:3260"])
SPREAD = [
    CONFIG,
    session(1, "before", "h1", current=f"{P1}:3260"),
    session(1, "before", "h2", current=f"{P2}:3260"),
]
NEW = [FAULT, login(6), session(7, "after")]
LOST = {"block": 3, "expected": 7, "found": 5}
CONSOLE = [event(0, "h1", "console", phase="begin"), event(9, "h1", "console", phase="end")]
MESSAGE = event(3, "h1", "kernel-message", line="BUG: unable to handle <page> fault")


def kernels(*names: str):
    """The configuration of a lab where these have a kernel of their own."""
    return event(0, "lab", "config", kernels=[*names])


# factory -> how it is called, then examples by verdict.
CLOCK = event(0, "p2", "clock", within_ms=1.5)
"""The clock of the kernel that p2 is a port of is that close to the lab's."""

EXAMPLES = {
    "session_survived": (
        ("h1",),
        {
            "pass": [SESSIONS],
            "fail": [
                but(SESSIONS, "session", 1, device="sdb"),
                but(SESSIONS, "session", 1, serial="other"),
                but(SESSIONS, "session", 1, size_bytes=5),
                but(SESSIONS, "session", 1, sid=2),
                but(SESSIONS, "session", 1, target="iqn.other"),
                but(SESSIONS, "session", 1, state="FAILED"),
                but(SESSIONS, "session", 1, disks=[{"lun": 2, "device": "sdb", "serial": "b"}]),
                but(SESSIONS, "session", 1, device=None),
            ],
            "unknown": [
                [],
                SESSIONS[:1],
                SESSIONS[1:],
                but(SESSIONS, "session", 1, serial=...),
                [session(1, "before", serial=None), session(2, "after", serial=None)],
            ],
        },
    ),
    "same_connection": (
        ("h1",),
        {
            "pass": [SESSIONS],
            "fail": [
                but(SESSIONS, "session", 1, connection=f"10.0.0.101:9 {P2}:3260"),
                but(SESSIONS, "session", 1, connection=None),
            ],
            "unknown": [
                [],
                SESSIONS[:1],
                but(SESSIONS, "session", 0, connection=None),
            ],
        },
    ),
    "no_lost_writes": (
        ("h1",),
        {
            "pass": [[*STEADY, VERIFIED]],
            "fail": [
                [*STEADY, {**VERIFIED, "lost": [LOST]}],
                [*STEADY, {**VERIFIED, "torn": [4]}],
                [{**VERIFIED, "torn": [4]}],
            ],
            "unknown": [
                [],
                STEADY,
                [VERIFIED],
                [*STEADY, {**VERIFIED, "blocks": 0}],
                [*STEADY, {**VERIFIED, "blocks": 8}],
                [*STEADY, VERIFIED, io(3, block=1)],
                [*load(0, 1), io(0.5, op="read"), VERIFIED],
            ],
        },
    ),
    "no_io_errors": (
        ("h1",),
        {
            "pass": [STEADY],
            "fail": [[*STEADY, io(0.95, "EIO")]],
            "unknown": [[], [io(1, host="h2")]],
        },
    ),
    "stall_below": (
        ("h1", 150),
        {
            "pass": [STEADY, [*STEADY, io(0.45, "EIO")]],
            "fail": [
                [e for e in STEADY if e["t"] != 0.5],
                [*load(0, 1), *[io(n / 10) for n in range(3, 10)]],
                [*load(0, 1), *[io(n / 10) for n in range(1, 8)]],
                [*load(0, 1), *[io(n / 10, "EIO") for n in range(1, 10)]],
                [*load(0, None), io(0.1), io(0.5)],
                [*load(0, None), io(0.1), event(0.9, "h2", "fault", phase="begin")],
            ],
            "unknown": [[], load(0, 1), STEADY[2:], [*load(0, None), io(0.1), io(0.2)]],
        },
    ),
    "served_at": (
        ("h1", {P2, P3}, "after"),
        {
            "pass": [SESSIONS],
            "fail": [but(SESSIONS, "session", 1, current=f"{VIRTUAL}:3260")],
            "unknown": [[], SESSIONS[:1]],
        },
    ),
    "redirected_at_login": (
        ("h1", VIRTUAL, {P2, P3}),
        {
            "pass": [LOGINS, [*LOGINS, *SESSIONS]],
            "fail": [
                [login(0.1, status="0x0000", to=None), *SESSIONS],
                [login(0.1, status="0x0102"), *SESSIONS],
                [login(0.1, to=f"{P1}:3260"), *SESSIONS],
                [login(0.1, to=None), *SESSIONS],
                [*LOGINS, session(1, "before", current=f"{VIRTUAL}:3260")],
            ],
            "unknown": [
                [],
                SESSIONS,
                LOGINS[:1],
                [login(0.1, status=None, to=None)],
                [login(0.1, host="h2")],
            ],
        },
    ),
    "login_answered": (
        ("h1", VIRTUAL, "0x0000"),
        {
            "pass": [[login(0.1, status="0x0000", to=None)]],
            "fail": [LOGINS, [login(0.1, status="0x0000", to=None), login(0.2)]],
            "unknown": [[], LOGINS[1:], [login(0.1, host="h2")]],
        },
    ),
    "same_disk": (
        ("h1", "h2"),
        {
            "pass": [SPREAD],
            "fail": [
                but(SPREAD, "session", 1, serial="other"),
                but(SPREAD, "session", 1, size_bytes=5),
                [*SPREAD, session(2, "after", "h2", serial="other")],
            ],
            "unknown": [[], SESSIONS],
        },
    ),
    "discovery_hides_ports": (
        ("h1", VIRTUAL),
        {
            "pass": [[DISCOVERY]],
            "fail": [
                [{**DISCOVERY, "portals": [f"{VIRTUAL}:3260", f"{P2}:3260"]}],
                [{**DISCOVERY, "portals": [f"{P2}:3260"]}],
                [{**DISCOVERY, "portals": []}],
                [DISCOVERY, {**DISCOVERY, "kind": "discovery-wire", "portals": [P1, VIRTUAL]}],
            ],
            "unknown": [[], [{**DISCOVERY, "where": "h2"}]],
        },
    ),
    "one_owner_of_virtual_address": (
        (),
        {
            "pass": [MOVE, MOVE[:2]],
            "fail": [
                [CONFIG, address(0, "p1"), address(5, "p2"), address(5.001, "p1", "del")],
                [CONFIG, address(0, "p1"), address(5, "p2")],
                [*MOVE, claim(6, "02:00:00:00:00:66")],
                [*MOVE, claim(6, "02:00:00:00:00:66", "arp-claim")],
                [CLOCK, CONFIG, address(0, "p1"), address(5, "p2"), address(5.002, "p1", "del")],
            ],
            "unknown": [
                [CLOCK, CONFIG, address(0, "p1"), address(5, "p2"), address(5.001, "p1", "del")],
                [],
                MOVE[1:],
                [CONFIG],
                [*MOVE, event(3, "array", "watch-gap", what="netlink overflow")],
                [{**CONFIG, "macs": {}}, *MOVE[1:]],
                but(MOVE, "address", 0, source="controller")[:2],
            ],
        },
    ),
    "moved_to": (
        (VIRTUAL, {"p2", "p3"}),
        {
            "pass": [MOVE],
            "fail": [MOVE[:2], MOVE[:3], [*MOVE, address(6, "p3")]],
            "unknown": [[], [CONFIG]],
        },
    ),
    "fenced_before_moved": (
        (),
        {
            "pass": [[address(1, "a"), event(2, "a", "power", what="fenced"), address(3, "b")]],
            "fail": [
                [address(1, "a"), address(3, "b"), event(4, "a", "power", what="fenced")],
                [address(1, "a"), address(2, "a", "del"), address(3, "b")],
                [
                    address(1, "a"),
                    event(2, "a", "power", what="fenced"),
                    address(3, "b"),
                    address(4, "a"),
                ],
            ],
            "unknown": [
                [],
                [address(1, "a"), address(1, "b", ip=P1)],
                [
                    event(0, "b", "clock", within_ms=1.5),
                    address(1, "a"),
                    address(3, "b"),
                    event(3.001, "a", "power", what="off"),
                ],
            ],
        },
    ),
    "new_login": (
        ("h1", VIRTUAL),
        {
            "pass": [NEW],
            "fail": [
                but(NEW, "login", 0, t=4),
                but(NEW, "login", 0, status="0x0300"),
                but(NEW, "login", 0, where="h2"),
                but(NEW, "session", 0, state="FREE"),
            ],
            "unknown": [[], [FAULT, NEW[2]], NEW[:2]],
        },
    ),
    "sessions_spread": (
        (),
        {
            "pass": [SPREAD],
            "fail": [
                [*SPREAD, session(1, "before", "h3", current=f"{P2}:3260")],
                [CONFIG, session(1, "before", current=f"{VIRTUAL}:3260")],
                [*SPREAD, address(0.5, "p1", ip=P1), address(0.5, "p1", ip=P2)],
            ],
            "unknown": [[], [CONFIG], SPREAD[1:], [CONFIG, session(1, "before", state="FAILED")]],
        },
    ),
    "kernel_quiet": (
        (),
        {
            "pass": [CONSOLE, [*CONSOLE, kernels("h1")], [kernels()]],
            "fail": [[*CONSOLE, MESSAGE], [MESSAGE], [kernels(), MESSAGE]],
            "unknown": [
                [],
                CONSOLE[:1],
                [*CONSOLE, event(0, "h2", "console", phase="begin")],
                [*CONSOLE, kernels("h1", "a1")],
                [kernels("a1")],
                [kernels(), CONSOLE[0]],
            ],
        },
    ),
    "reached": (
        (),
        {
            "pass": [STEADY],
            "fail": [[*STEADY, event(9, "lab", "wait-timeout", what="a login", last="none")]],
            "unknown": [[]],
        },
    ),
}
EXAMPLES |= REQUESTS | FAULTS | ACCESS | IDENTITY

CASES = [
    pytest.param(name, args, verdict, events, id=f"{name}-{verdict}-{n}")
    for name, (args, examples) in EXAMPLES.items()
    for verdict, given_events in examples.items()
    for n, events in enumerate(given_events)
]


@pytest.mark.parametrize(("name", "args", "verdict", "events"), CASES)
def test_example(name, args, verdict, events):
    (finding,) = judge(timeline_of(*events), [checks.FACTORIES[name](*args)])
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
    (finding,) = judge(timeline_of(*SPREAD, *taken), [checks.sessions_spread()])
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
    found = measures(timeline_of(*STEADY, VERIFIED, fault, *MOVE, *LOGINS, io(0.35, "EIO")))
    assert found == {
        "stall_ms": {"h1": pytest.approx(100)},
        "iops": {"h1": 9.0},
        "acked_writes": 9,
        "io_errors": 1,
        "lost_writes": 0,
        "torn_writes": 0,
        "logins": 2,
        "address_move_ms": {VIRTUAL: pytest.approx(20)},
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
