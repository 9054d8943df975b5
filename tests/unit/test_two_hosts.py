"""Checks with evidence that belongs to another: a second host, session, fault, portal or address.

The examples beside test_checks.py have one of each, so a check that forgets to tell them apart
gives the right verdict there. These fail it.
"""

import copy

import pytest
from access_examples import BROKEN_OFF, REFUSED, UNTOLD, attempt, proof
from evidence_events import all_seen
from fault_examples import (
    AWAY,
    BACK,
    DIED,
    DOWN,
    ERRORS,
    HOME,
    LOST,
    STARTED,
    announced,
    fault,
    front,
    moment,
    move,
    said,
    write,
)
from identity_examples import attempt as tried
from identity_examples import held, identity
from request_examples import (
    AT_FIRST,
    DROPPED,
    IGNORED,
    MOVED,
    SECOND,
    changed,
    connections,
    hung_up,
    logout,
    message,
)
from request_examples import BACK as RETURNED
from request_examples import login as wire_login
from session_events import (
    CLOCK,
    CONFIG,
    CONSOLE,
    DISCOVERY,
    FAULT,
    LOGINS,
    MACS,
    MOVE,
    NEW,
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
    claim,
    event,
    io,
    load,
    login,
    session,
)
from test_checks import EXAMPLES, timeline_of

from lab import checks
from lab.checks import Verdict, judge

OTHER = "h9"
OF_ONE_HOST = {name: one for name, one in EXAMPLES.items() if one[0][:1] == ("h1",)}
DEPENDS_ON_ALL = {
    # An open load ends with the timeline, whoever is the last to be heard of.
    ("stall_below", "unknown"),
    # Another host's login says that the wire was watched, so that this one's is missing.
    ("new_login", "unknown"),
}


def elsewhere(events):
    """The events of h1 as if they were another host's; no faults, nothing of lab and array."""
    its = [e for e in events if e["where"] == "h1" and e["kind"] != "fault"]
    return [{**copy.deepcopy(e), "where": OTHER} for e in its]


def verdict_of(name, args, events, **options):
    one = checks.FACTORIES[name](*args, **options)
    (finding,) = judge(timeline_of(*all_seen(one), *events), [one])
    return finding


CROWDED = [
    pytest.param(name, args, verdict, events, elsewhere(others), id=f"{name}-{verdict}-{n}-{of}")
    for name, (args, examples) in OF_ONE_HOST.items()
    for verdict, found in examples.items()
    if (name, verdict) not in DEPENDS_ON_ALL
    for n, events in enumerate(found)
    for of, all_others in examples.items()
    if of != verdict
    for others in all_others[:4]
]


@pytest.mark.parametrize(("name", "args", "verdict", "events", "others"), CROWDED)
def test_what_another_host_did_changes_no_verdict(name, args, verdict, events, others):
    assert verdict_of(name, args, [*events, *others]).verdict == verdict
    assert verdict_of(name, args, [*others, *events]).verdict == verdict


# --- one of several is not all of them, and the first is not the last --------------------------

TWO_SESSIONS = [session(t, m, sid=sid, device=d, connection=f"c{sid}", current=f"{p}:3260")
                for t, m in ((1, "before"), (9, "after"))
                for sid, d, p in ((1, "sda", P2), (2, "sdb", P3))]  # fmt: skip
BAD_ATTEMPT, GOOD_ATTEMPT = attempt(0.4, status=24), attempt(0.4, status=0)
TWICE = [*BACK, *move(9, "p1", "p2"), *move(9.1, "p2", "p1")]
CLOCKS = [CLOCK, event(0, "p1", "clock", within_ms=1.5)]
IP2 = "10.0.0.2"
TWO_ADDRESSES = [{**CONFIG, "virtual": [VIRTUAL, IP2]}, *MOVE[1:]]
CUT = event(2, "a", "power", what="fenced")


def boot(t, name):
    return event(t, "a", "head-boot", boot=name)


def overlap(ms):
    return [CONFIG, address(0, "p1"), address(5, "p2"), address(5 + ms / 1000, "p1", "del")]


CASES = [
    # session
    ("session_survived", ("h1",), "pass", TWO_SESSIONS),
    ("session_survived", ("h1",), "fail", but(TWO_SESSIONS, "session", 2, state="FAILED")),
    ("session_survived", ("h1",), "fail", but(TWO_SESSIONS, "session", 3, state="FAILED")),
    ("session_survived", ("h1",), "fail", but(TWO_SESSIONS, "session", 3, serial="x")),
    ("session_survived", ("h1",), "fail", TWO_SESSIONS[:3]),
    ("session_survived", ("h1",), "fail", [*SESSIONS, session(9.5, "after", state="FAILED")]),
    ("session_survived", ("h1",), "pass", [*SESSIONS, session(5, "during", state="FAILED")]),
    ("same_connection", ("h1",), "pass", TWO_SESSIONS),
    ("same_connection", ("h1",), "fail", but(TWO_SESSIONS, "session", 3, connection="c9")),
    ("same_connection", ("h1",), "fail", but(TWO_SESSIONS, "session", 2, connection="c9")),
    ("same_connection", ("h1",), "fail", TWO_SESSIONS[:3]),
    ("served_at", ("h1", {P2, P3}, "after"), "pass", TWO_SESSIONS),
    ("served_at", ("h1", P2, "after"), "fail", TWO_SESSIONS),
    ("served_at", ("h1", P3, "after"), "fail", TWO_SESSIONS),
    ("served_at", ("h1", P2, "after"), "pass", but(SESSIONS, "session", 0, current=P1)),
    ("redirected_at_login", ("h1", VIRTUAL, P2), "pass", [*LOGINS, login(9, to=f"{P3}:3260")]),
    ("redirected_at_login", ("h1", VIRTUAL, P3), "fail", [*LOGINS, login(9, to=f"{P3}:3260")]),
    ("redirected_at_login", ("h1", VIRTUAL), "pass", [login(0, P2, "0x0000", None), *LOGINS]),
    ("redirected_at_login", ("h1", VIRTUAL), "pass",
     [*LOGINS, session(9, "after", "h2", current=f"{VIRTUAL}:3260")]),
    ("redirected_at_login", ("h1", VIRTUAL), "fail",
     [*LOGINS, *SESSIONS, session(9, "after", sid=2, current=f"{VIRTUAL}:3260")]),
    ("discovery_hides_ports", ("h1", VIRTUAL), "fail",
     [{**DISCOVERY, "portals": [f"{P2}:3260"]}, {**DISCOVERY, "t": 1}]),
    ("discovery_hides_ports", ("h1", VIRTUAL), "fail",
     [DISCOVERY, {**DISCOVERY, "t": 1, "portals": [f"{P2}:3260"]}]),
    # The first fault of two counts; the login at another portal and before it do not.
    ("new_login", ("h1", VIRTUAL), "pass", [*NEW, {**FAULT, "t": 8}]),
    ("new_login", ("h1", VIRTUAL), "fail",
     [{**FAULT, "t": 4, "phase": "end"}, login(4.5), FAULT, session(7, "after")]),
    ("new_login", ("h1", VIRTUAL), "fail", [FAULT, login(4), login(6, P2), session(7, "after")]),
    ("new_login", ("h1", VIRTUAL), "pass",
     [*NEW[:2], session(6.5, "during", state="FREE"), session(7, "after")]),
    ("new_login", ("h1", VIRTUAL), "fail",
     [*NEW, session(8, "last", state="FREE")]),
    ("new_login", ("h1", VIRTUAL), "unknown", [FAULT, session(5.5, "during"), login(6)]),
    ("new_login", ("h1", VIRTUAL), "pass", [*NEW, login(8)]),
    ("new_login", ("h1", VIRTUAL), "pass", [FAULT, login(5.5, status="0x0300"), *NEW[1:]]),
    ("new_login", ("h1", VIRTUAL), "fail", [*NEW[:2], *[
        session(7, "after", sid=sid, state=state) for sid, state in ((1, "FREE"), (2, "LOGGED_IN"))
    ]]),
    ("sessions_spread", (), "pass", [*SPREAD, session(2, "after", "h2")]),
    ("sessions_spread", (), "fail", [*SPREAD, *[
        session(2, "after", "h2", sid=sid) for sid in (1, 2)]]),
    ("login_answered", ("h1", P2, "0x0000"), "pass", LOGINS),
    ("same_disk", ("h1", "h2"), "fail", [*SPREAD, session(0, "first", "h1", serial="other")]),
    ("same_disk", ("h1", "h2"), "pass", [*SPREAD, session(2, "after", "h3", serial="other")]),
    # disk
    ("no_lost_writes", ("h1",), "pass", [*STEADY, *READ_BACK, io(0.95, "EIO", block=77), VERIFIED]),
    ("no_lost_writes", ("h1",), "fail",
     [*STEADY, {**VERIFIED, "t": 1.5, "lost": [3]}, VERIFIED]),
    ("no_lost_writes", ("h1",), "unknown",
     [*STEADY, VERIFIED, io(3, block=1), {**VERIFIED, "where": "h2", "t": 4}]),
    ("no_io_errors", ("h1",), "fail", [io(0.05, "EIO"), *STEADY]),
    # A read counts for the stall as a write does; what completes counts when it completes.
    ("stall_below", ("h1", 150), "pass", [*load(0, 0.3), io(0.1), io(0.2, op="read")]),
    ("stall_below", ("h1", 150), "fail", [*load(0, 1), *[
        {**io(n / 10), "start": n / 10 - 0.1, "t": n / 10 + (0.3 if n > 4 else 0)}
        for n in range(1, 10)]]),
    ("stall_below", ("h1", 150), "fail",
     [*STEADY, *load(2, 3), *[io(2 + n / 10) for n in (1, 2, 3, 7, 8, 9)]]),
    ("stall_below", ("h1", 150), "fail",
     [*load(0, 1), *[io(n / 10) for n in (1, 2, 7, 8, 9)], *load(2, 2.1)]),
    ("stall_below", ("h1", 150), "pass", [*STEADY, *[{**e, "t": e["t"] + 5} for e in STEADY]]),
    # address, moves
    ("moved_to", (VIRTUAL, {"p2"}), "pass", [*MOVE, address(6, "p3", ip=IP2)]),
    ("moved_to", (VIRTUAL, {"p2"}), "fail", [*MOVE, *move(6, "p2", "p1")]),
    ("moved_times", (VIRTUAL, 2), "pass", BACK),
    ("moved_times", (VIRTUAL, 2), "fail", AWAY),
    ("moved_times", (VIRTUAL, 0), "pass", [HOME, address(1, "p1", "del"), address(2, "p1")]),
    ("moved_times", (VIRTUAL, 0), "pass",
     [HOME, address(0, "p1", ip=IP2), address(1, "p1", "del", IP2), address(2, "p2", ip=IP2)]),
    # The last end of a fault at home counts, and none elsewhere.
    ("home_after_hold", (VIRTUAL, 2.0), "pass", [*BACK, fault(8, "end", where="p2")]),
    ("home_after_hold", (VIRTUAL, 2.0), "pass", [*BACK, fault(3), fault(3.5, "end")]),
    ("home_after_hold", (VIRTUAL, 2.0), "fail",
     [*BACK, fault(7.5), fault(8, "end")]),
    ("home_after_hold", (VIRTUAL, 2.0), "unknown",
     [*AWAY, fault(6, "end", where="p2"), *move(8.1, "p2", "p1")]),
    ("home_after_hold", (VIRTUAL, 2.0), "fail", TWICE),
    ("one_owner_of_virtual_address", (), "pass",
     [*TWO_ADDRESSES, address(0, "p1", ip=IP2)]),
    ("one_owner_of_virtual_address", (), "fail",
     [*TWO_ADDRESSES, address(0, "p1", ip=IP2), address(1, "p3", ip=IP2)]),
    ("one_owner_of_virtual_address", (), "fail",
     [{**CONFIG, "virtual": [IP2, VIRTUAL]}, address(0, "p3", ip=IP2), *MOVE[1:],
      address(6, "p1")]),
    ("one_owner_of_virtual_address", (), "unknown", TWO_ADDRESSES),
    ("one_owner_of_virtual_address", (), "pass",
     [*MOVE, claim(6, "02:00:00:00:00:66", ip=P3)]),
    ("one_owner_of_virtual_address", (), "fail",
     [*MOVE, claim(6, "02:00:00:00:00:66"), claim(7, MACS["p2"])]),
    # Whoever claims an address must have it: not a port that never had it, nor one that lost it.
    ("one_owner_of_virtual_address", (), "fail", [*MOVE, claim(6, MACS["p3"], "arp-claim")]),
    ("one_owner_of_virtual_address", (), "fail", [*MOVE, claim(5.03, MACS["p3"])]),
    ("one_owner_of_virtual_address", (), "fail", [*MOVE, claim(6, MACS["p1"])]),
    ("one_owner_of_virtual_address", (), "fail", [*MOVE, claim(3, MACS["p2"])]),
    ("one_owner_of_virtual_address", (), "pass", [*MOVE, claim(4, MACS["p1"])]),
    # Close to the move nobody can tell, with slow clocks not even a little later.
    ("one_owner_of_virtual_address", (), "pass",
     [*MOVE, claim(3.03, MACS["p2"]), claim(5.5, MACS["p1"])]),
    ("one_owner_of_virtual_address", (), "fail", [*MOVE, claim(5.511, MACS["p1"])]),
    ("one_owner_of_virtual_address", (), "pass",
     [{**CLOCK, "where": "p1"}, *MOVE, claim(5.511, MACS["p1"])]),
    ("one_owner_of_virtual_address", (), "unknown",
     [*MOVE, claim(6, MACS["p3"]),
      event(3, "array", "evidence", source="addresses", phase="gap", what="netlink overflow")]),
    # Two clocks that are each good to 1.5 ms may be 3 ms apart, not more.
    ("one_owner_of_virtual_address", (), "unknown", [*CLOCKS, *overlap(2.5)]),
    ("one_owner_of_virtual_address", (), "fail", [*CLOCKS, *overlap(3.5)]),
    ("one_owner_of_virtual_address", (), "fail",
     [CLOCK, {**CLOCK, "where": "p3"}, *overlap(2.5)]),
    # A short doubtful overlap does not hide a later one that is certain.
    ("one_owner_of_virtual_address", (), "fail",
     [*CLOCKS, *overlap(1), address(6, "p1"), address(6.1, "p2", "del")]),
    ("one_owner_of_virtual_address", (), "unknown",
     [CLOCK, {**CLOCK, "t": 1, "within_ms": 0.1}, *overlap(1)]),
    ("fenced_before_moved", (), "unknown",
     [event(0, "a", "clock", within_ms=1.5), event(0, "b", "clock", within_ms=1.5),
      address(1, "a"), address(3, "b"), event(3.0025, "a", "power", what="off")]),
    ("fenced_before_moved", (), "fail",
     [event(0, "c", "clock", within_ms=9), address(1, "a"), address(3, "b"),
      event(3.0025, "a", "power", what="off")]),
    # What ended an earlier boot did not end the one that had the address.
    ("fenced_before_moved", (), "pass",
     [boot(0, "1"), address(1, "a"), {**CUT, "boot": "1"}, address(3, "b")]),
    ("fenced_before_moved", (), "fail",
     [boot(0, "2"), address(1, "a"), {**CUT, "boot": "1"}, address(3, "b")]),
    ("fenced_before_moved", (), "fail",
     [boot(0, "1"), address(1, "a"), {**CUT, "boot": ""}, address(3, "b")]),
    ("fenced_before_moved", (), "pass",
     [boot(0, "1"), address(1, "a"), {**CUT, "boot": "1"}, boot(2.5, "2"), address(3, "b")]),
    ("fenced_before_moved", (), "fail",
     [address(1, "a"), address(1, "c", ip=IP2), {**CUT, "where": "c"}, address(3, "b")]),
    ("fenced_before_moved", (), "pass",
     [address(1, "a"), address(1, "a", ip=IP2), CUT, address(3, "b"), address(3, "b", ip=IP2)]),
    ("fenced_before_moved", (), "fail",
     [address(1, "a"), address(1, "c", ip=IP2), CUT, address(3, "b"), address(3, "b", ip=IP2)]),
    ("fenced_before_moved", (), "fail",
     [event(0, "a", "clock", within_ms=1.5), address(1, "a"), address(3, "b"),
      event(3.001, "c", "power", what="off")]),
    # That it was cut once does not count for the second time.
    ("fenced_before_moved", (), "fail",
     [address(1, "a"), CUT, address(3, "b"), event(3.5, "b", "power", what="off"),
      address(4, "a"), address(5, "b")]),
    ("unannounced", ("h1", VIRTUAL), "fail",
     [*LOST, *AWAY, announced(5.1),
      fault(4.1, name="announcements-lost", where="h2"),
      fault(5.05, "end", name="announcements-lost", where="h2")]),
    ("unannounced", ("h1", VIRTUAL), "pass",
     [*LOST, *AWAY, {**announced(5.1), "address": IP2}]),
    ("unannounced", ("h1", VIRTUAL), "fail",
     [*LOST, *AWAY, announced(5.1), fault(4.2, "end", where="p1")]),
    ("unannounced", ("h1", VIRTUAL), "fail",
     [*LOST, *AWAY, announced(5.1), fault(5.05, "end", where="h1")]),
    ("controller_restarted", (2,), "fail", DIED),
    ("controller_restarted", (2,), "pass",
     [*DIED, said(2, "died"), said(2.1, "started"), said(2.2, "settled")]),
    ("controller_restarted", (1,), "fail",
     [*DIED, said(2, "died"), said(2.1, "started")]),
    ("controller_restarted", (1,), "pass", [*DIED, DOWN, said(8, "died")]),
    ("front_restarted", (), "fail", [front(1, "died"), front(1.2, "died"), front(1.4, "restarted"),
                                     front(1.5, "restarted"), front(2, "died")]),
    ("front_restarted", (), "fail", [
        front(1, "died"), {**front(1.1, "died"), "where": "a2"},
        {**front(1.2, "restarted"), "where": "a2"}]),
    # requests
    ("asked_then_moved", ("h1", VIRTUAL, P1), "pass", [*MOVED, *RETURNED]),
    ("asked_then_moved", ("h1", VIRTUAL, P2), "fail", [*MOVED, *RETURNED]),
    ("asked_then_moved", ("h1", VIRTUAL), "fail", [*changed(MOVED, 5, status="0x0301"), *RETURNED]),
    ("asked_then_moved", ("h1", VIRTUAL), "fail", [*MOVED, *RETURNED[:-1]]),
    ("one_asked_at_a_time", (3,), "fail", [*MOVED, *SECOND]),
    ("one_asked_at_a_time", (2,), "fail",
     [*MOVED[:4], *SECOND[:1], wire_login(3, VIRTUAL, "0x0101", f"{P2}:3260", where="h2"),
      *SECOND[1:]]),
    ("one_asked_at_a_time", (2,), "fail",
     [*MOVED, message(11, portal=P2), message(12, where="h2"), message(13, where="h3")]),
    ("dropped_after_grace", ("h1", 5), "pass", [*IGNORED, hung_up(2, "host", P2)]),
    ("dropped_after_grace", ("h1", 5), "pass", [*IGNORED, message(3)]),
    ("dropped_after_grace", ("h1", 5), "pass", [*IGNORED, {**logout(3), "where": "h2"}]),
    ("dropped_after_grace", ("h1", 5), "fail", changed(IGNORED, 4, portal=f"{P2}:3260")),
    ("dropped_after_grace", ("h1", 5), "unknown", changed(IGNORED, 3, t=7)),
    ("dropped_after_grace", ("h1", 5), "unknown", changed(IGNORED, 3, status="EIO")),
    ("drop_announced", ("h1", VIRTUAL, 2), "pass", [*DROPPED, hung_up(1.005, "host", P2)]),
    ("drop_announced", ("h1", VIRTUAL, 2), "fail", changed(DROPPED, 3, portal=f"{P2}:3260")),
    ("drop_announced", ("h1", VIRTUAL, 2), "fail", changed(DROPPED, 4, portal=f"{P2}:3260")),
    ("drop_announced", ("h1", VIRTUAL, 2), "pass", [*DROPPED, hung_up(8), message(9, 2)]),
    ("came_back_to", ("h1", VIRTUAL), "pass", [*MOVED, logout(11), wire_login(12, P1)]),
    ("came_back_to", ("h1", VIRTUAL), "fail",
     [*AT_FIRST, logout(1.1), wire_login(2, P1), *MOVED[3:]]),
    ("connection_counts", ("there", "p1 0, p2 1"), "fail",
     [connections("there", p1=0, p2=1), {**connections("there", p1=0, p2=2), "t": 6}]),
    ("connection_counts", ("there", "p1 0, p2 1"), "fail", [connections("there", p1=0, p2=2)]),
    ("connection_counts", ("there", "p1 0, p2 1"), "pass",
     [connections("there", p1=0, p2=1), {**connections("back", p1=1, p2=0), "t": 6}]),
    # access
    ("login_refused", ("h1", P1, "0x0201"), "pass", [*REFUSED, wire_login(1, P2)]),
    ("login_refused", ("h1", P1, "0x0201"), "fail", [*REFUSED, GOOD_ATTEMPT]),
    ("login_refused", ("h1", P1, "0x0201"), "fail", [REFUSED[2], GOOD_ATTEMPT, attempt(1)]),
    ("login_refused", ("h1", P1, "0x0201"), "pass",
     [*REFUSED, attempt(0.4, "discovery", status=0)]),
    ("discovery_refused", ("h1", VIRTUAL, "0x0201"), "fail", [*UNTOLD, {**UNTOLD[0], "t": 1,
                                                               "status": "0x0000"}]),
    ("host_refused", ("h1", P1), "fail",
     [*BROKEN_OFF, wire_login(1, P1, None), hung_up(1.1, "array"), BAD_ATTEMPT]),
    ("host_refused", ("h1", P1), "fail", [*BROKEN_OFF, GOOD_ATTEMPT]),
    ("host_refused", ("h1", P1), "fail", changed(BROKEN_OFF, 3, portal=f"{P2}:3260")),
    ("host_refused", ("h1", P1), "pass",
     [*BROKEN_OFF, hung_up(5, "array"), hung_up(0.01, "array", VIRTUAL)]),
    ("nothing_served", ("h1",), "fail", [*REFUSED[:3], attempt(0.2, sessions=1), BAD_ATTEMPT]),
    ("proved", ("h1", P1, {"host", "target"}), "fail",
     [proof(0, "target"), proof(1, "host", "target")]),
    ("proved", ("h1", P1, {"host"}), "fail", [proof(0, "host", "target")]),
    ("proved", ("h1", P1, {"host"}), "pass",
     [proof(0, "host"), proof(1, portal=P2), proof(2, status="0x0201")]),
    # identity
    ("same_identity", ("h1", 3), "fail", EXAMPLES["same_identity"][1]["pass"][0]),
    ("same_identity", ("h1", 1), "fail",
     [identity(1, "before", 1), identity(5, "moved", 1, serial="x"), identity(9, "after", 1)]),
    ("reservation_unchanged", ("h1",), "fail",
     [held(1, "before"), held(3, "moved", holder="0xb2"), held(5, "after")]),
    ("writes_refused", ("h1",), "fail", [tried(1, "before", "ok"), tried(5, "after", "conflict")]),
    ("writes_allowed", ("h1",), "fail", [tried(1, "before", "conflict"), tried(5, "after", "ok")]),
    # endurance, run
    ("stayed_logged_in", ("h1",), "fail",
     [wire_login(0, P1), *load(1, 2), *load(4, 9), wire_login(5, P1)]),
    ("stayed_logged_in", ("h1",), "pass",
     [wire_login(0, P1), *load(1, 2), wire_login(3, P1), *load(4, 9)]),
    ("recovered_after_errors", ("h1", 2), "fail", [write(0.5), *ERRORS[:2], *ERRORS[2:3]]),
    ("recovered_after_errors", ("h1", 3), "fail", ERRORS),
    ("frames_dropped", ("h1", 3), "fail", [event(1, "h1", "netem", packets=9, dropped=2)]),
    ("frames_dropped", ("h1", 3), "pass",
     [event(t, "h1", "netem", packets=9, dropped=2) for t in (1, 2)]),
    ("kernel_quiet", (), "unknown",
     [*CONSOLE, *[{**e, "where": "h2"} for e in CONSOLE], {**CONSOLE[0], "where": "a1"}]),
    ("reached", (), "fail", [event(1, "lab", "wait-timeout", what="a login", last="none"),
                             moment(2, "done")]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "args", "verdict", "events"),
    [pytest.param(*case, id=f"{case[0]}-{case[2]}-{n}") for n, case in enumerate(CASES)],
)
def test_evidence_that_belongs_to_another(name, args, verdict, events):
    finding = verdict_of(name, args, events)
    assert finding.verdict == verdict, finding.evidence
    assert "could not read" not in finding.evidence


def test_so_many_logins_or_more():
    astray = EXAMPLES["logins_sent_to"][1]["pass"][0]
    look = ("logins_sent_to", ("h1", "10.0.0.99:3260"))
    assert verdict_of(*look, astray, times=2).verdict == "fail"
    assert verdict_of(*look, [*astray, {**astray[2], "t": 9}], times=2).verdict == "pass"
    assert verdict_of(*look, astray, at=P2).verdict == "fail"
    assert verdict_of(*look, astray, at=P1).verdict == "pass"


def test_so_many_deaths_in_the_midst_of_a_move():
    again = [*DIED, said(2, "died"), said(2.1, "started"), said(2.2, "settled")]
    for moving, verdict in ((1, "pass"), (2, "fail")):
        assert verdict_of("controller_restarted", (1,), again, moving=moving).verdict == verdict
    killed = [*STARTED, {**fault(1), "name": "controller-killed"}, *DIED[3:]]
    assert verdict_of("controller_restarted", (1,), killed, moving=1).verdict == "fail"


def test_what_is_told_is_of_the_first_login_and_the_last_session():
    refused = login(5.5, status="0x0300", to=None)
    stayed = [session(7, "after", current=f"{P1}:3260"), session(8, "last", current=f"{P3}:3260")]
    told = [FAULT, refused, login(6), login(6.5, status="0x0000", to=None), *stayed]
    evidence = verdict_of("new_login", ("h1", VIRTUAL), told).evidence
    assert "was answered 0x0101" in evidence
    assert f"its session is at {P3}" in evidence


def test_every_check_of_this_file_is_there():
    """Of each check whose verdict could rest on another's evidence there is such an example."""
    judged = {case[0] for case in CASES} | set(OF_ONE_HOST)
    assert set(checks.FACTORIES) - judged == {"no_secret_leaked", "swaps_agree"}
    assert {case[2] for case in CASES} == set(Verdict)
