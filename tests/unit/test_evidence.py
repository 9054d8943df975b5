"""A pass needs evidence without a gap, and a fail by lateness a machine that let the lab work."""

import pytest
from evidence_events import all_seen, seen
from fault_examples import fault, move
from session_events import STEADY, VIRTUAL, address, event, io, load
from test_checks import EXAMPLES, timeline_of

from lab import checks
from lab.checks import judge
from lab.checks.clocks import apart_ms
from lab.checks.evidence import waited_ms
from lab.evidence import Evidence

PASSING = [
    pytest.param(name, args, events, id=f"{name}-{n}")
    for name, (args, examples) in EXAMPLES.items()
    for n, events in enumerate(examples["pass"])
]
NEEDY = [
    pytest.param(checks.FACTORIES[name](*args), at, events, id=f"{name}-{source}")
    for name, (args, examples) in EXAMPLES.items()
    for events in examples["pass"][:1]
    for at, (source, _) in enumerate(checks.FACTORIES[name](*args).needs)
]
SELF_CONTAINED = {
    # Each looks at what was asked for once, and says unknown where no answer was recorded.
    "connection_counts", "frames_dropped", "front_restarted", "no_secret_leaked", "reached",
    "reservation_unchanged", "same_connection", "same_disk", "same_identity", "served_at",
    "session_survived", "writes_allowed", "writes_refused",
    # Looks at the evidence itself.
    "kernel_quiet",
}  # fmt: skip
DOWN = event(900, "lab", "moment", name="take-down")


def verdict(one, *events):
    (finding,) = judge(timeline_of(*events), [one])
    return finding.verdict, finding.evidence


def test_every_check_that_needs_an_observer_says_so():
    without = {
        name for name, (args, _) in EXAMPLES.items() if not checks.FACTORIES[name](*args).needs
    }
    assert without == SELF_CONTAINED


@pytest.mark.parametrize(("one", "at", "events"), NEEDY)
def test_a_pass_without_its_evidence_is_unknown(one, at, events):
    (source, place), whole = one.needs[at], all_seen(one)
    where = place or "array"
    cut = [e for e in whole if e["source"] != source]
    begin, end = seen(source, where)

    def of(*more):
        return verdict(one, *cut, *events, *more, DOWN)

    def gap(t, **more):
        return event(t, where, "evidence", source=source, phase="gap", what="99 were lost", **more)

    assert of(begin, end)[0] == "pass"
    assert of()[0] == "unknown"
    assert of(begin)[0] == "unknown", "it did not end well"
    found, said = of(begin, gap(3), end)
    assert (found, "99 were lost" in said) == ("unknown", True)
    broke = event(3, where, "evidence", source=source, phase="broken", what="disk full")
    assert of(begin, broke)[0] == "unknown"
    assert of(begin, end, *seen(source, where)[:1])[0] == "unknown", "the second did not end"
    # What was missed after the scenario's end does not count; what was found missing then, does.
    assert of(begin, gap(950, since=940), end)[0] == "pass"
    assert of(begin, gap(950), end)[0] == "unknown"
    assert of(begin, gap(950, since=3), end)[0] == "unknown"


@pytest.mark.parametrize(("one", "at", "events"), NEEDY)
def test_only_the_observer_of_the_place_counts(one, at, events):
    source, place = one.needs[at]
    blind = event(5, "h9", "evidence", source=source, phase="gap", what="blind")
    other = [*seen(source, "h9"), blind]
    expected = "pass" if place else "unknown"
    assert verdict(one, *all_seen(one), *events, *other)[0] == expected


def test_an_observer_that_began_late_has_missed_the_beginning():
    one = checks.moved_to("10.0.0.1")
    _, examples = EXAMPLES["moved_to"]
    events = [*examples["pass"][0], event(0.5, "lab", "moment", name="built")]
    assert verdict(one, *events, *seen("addresses", since=0.4))[0] == "pass"
    assert verdict(one, *events, *seen("addresses", since=0.7))[0] == "unknown"


HEADS = event(0, "lab", "config", kernels=["h1", "a", "b"], hosts=["h1", "h2"])


def fenced(*more):
    events = [address(0, "a"), event(2, "a", "power", what="fenced"), address(3, "b")]
    return verdict(checks.fenced_before_moved(), *events, HEADS, DOWN, *more)


@pytest.mark.parametrize("source", ["addresses", "clock"])
def test_an_observer_that_was_never_there_is_missed(source):
    of = {"addresses": ("a", "b"), "clock": ("a", "b", "h1")}
    whole = [e for s, places in of.items() for place in places for e in seen(s, place)]
    assert fenced(*whole)[0] == "pass"
    found, said = fenced(*[e for e in whole if (e["source"], e["where"]) != (source, "b")])
    assert (found, said.startswith(f"No observer of the {source} of b was there.")) == (
        "unknown", True
    )  # fmt: skip


def test_a_cable_that_was_not_recorded_is_missed():
    one, (_, examples) = checks.one_asked_at_a_time(), EXAMPLES["one_asked_at_a_time"]
    events = [*examples["pass"][0], HEADS, *seen("decoder")]
    both = [*seen("capture", "h1"), *seen("capture", "h2")]
    assert verdict(one, *events, *both)[0] == "pass"
    assert verdict(one, *events, *seen("capture", "h1"))[0] == "unknown"


def test_an_observer_that_ended_before_the_scenario_has_missed_its_end():
    one, (_, examples) = checks.moved_to("10.0.0.1"), EXAMPLES["moved_to"]
    early = [*examples["pass"][0], DOWN, *seen("addresses", "a1", until=500)]
    assert verdict(one, *early)[0] == "unknown"
    again = seen("addresses", "a1", since=510)
    assert verdict(one, *early, *again)[0] == "unknown", "nobody looked for 10 s"
    # A kernel without power has nothing to observe.
    cut = event(500, "a1", "power", what="off", boot="")
    assert verdict(one, *early, cut)[0] == "pass"
    cut = event(500, "a1", "fault", name="power-cut", phase="begin")
    assert verdict(one, *early, *again, cut)[0] == "pass"
    cut = event(500, "a2", "fault", name="power-cut", phase="begin")
    assert verdict(one, *early, cut)[0] == "unknown"


def test_an_observer_that_breaks_before_it_began_has_broken():
    timeline = timeline_of(*EXAMPLES["moved_to"][1]["pass"][0])
    one = Evidence(timeline, "a1", "addresses")
    one.broke("it could not read")
    one.begin()
    one.end()
    one.broke("its end is over")
    (finding,) = judge(timeline, [checks.moved_to("10.0.0.1")])
    assert finding.verdict == "unknown"
    assert "could not read" in finding.evidence
    assert len(timeline.events("evidence")) == 3


CLAIMS = {"one_owner_of_virtual_address()"}


def test_a_fail_stays_a_fail_without_evidence():
    for name, (args, examples) in EXAMPLES.items():
        # Whose claim on the wire is wrong, only a watcher that missed nothing can tell.
        seen = all_seen(one) if (one := checks.FACTORIES[name](*args)).name in CLAIMS else []
        for events in examples["fail"]:
            assert verdict(one, *seen, *events)[0] == "fail", name


# --- the machine ----------------------------------------------------------------------------


def busy(since, t, ms):
    return event(t, "lab", "machine", since=since, waited_ms=ms)


def test_what_the_lab_waited_is_counted_within_the_time():
    timeline = timeline_of(busy(0, 1, 400), busy(1, 2, 3000), busy(5, 6, 100))
    assert waited_ms(timeline, 0, 1) == pytest.approx(400)
    assert waited_ms(timeline, 0.5, 1) == pytest.approx(200)
    assert waited_ms(timeline, 0, 2) == pytest.approx(1400), "at most the whole time"
    assert waited_ms(timeline, 2, 5) == 0


STALL = [*load(0, 20), *[io(n / 10) for n in range(51)], *[io(7 + n / 10) for n in range(130)]]


@pytest.mark.parametrize(
    ("limit", "machine", "expected"),
    [
        (3000, [], "pass"),
        (1000, [], "fail"),
        (1000, [busy(5, 7, 400)], "fail"),
        (1000, [busy(5, 7, 600)], "unknown"),  # a quarter of the stall
        (1900, [busy(5, 7, 120)], "unknown"),  # as much as was missed
        (1000, [busy(0, 4.9, 4900), busy(7.1, 20, 9000)], "fail"),  # not then
    ],
)
def test_a_stall_is_the_machines_if_the_lab_waited_for_it(limit, machine, expected):
    one = checks.stall_below("h1", limit)
    found, said = verdict(one, *all_seen(one), *STALL, *machine)
    assert found == expected, said
    assert ("The machine was too busy" in said) == (expected == "unknown")


def test_a_load_that_was_cut_off_is_not_forgotten_when_the_next_one_begins():
    """Its stall would be: nobody knows how long it had been going on."""
    first = [*load(0, None), *[io(n / 10) for n in range(11)]]  # then nothing for 9 s
    second = [*load(10, 12), *[io(10 + n / 10) for n in range(21)]]
    one = checks.stall_below("h1", 500)
    whole = seen("load", "h1")
    assert verdict(one, *whole, *second)[0] == "pass"
    assert verdict(one, *whole, *first, *second)[0] != "pass"


TIMED = {name for name, (args, _) in EXAMPLES.items() if checks.FACTORIES[name](*args).timed}


def test_what_is_late_on_a_busy_machine_is_unknown_and_what_is_wrong_is_not():
    wrong = {"no_lost_writes", "one_owner_of_virtual_address", "fenced_before_moved",
             "same_identity", "no_secret_leaked", "redirected_at_login", "discovery_hides_ports",
             "nothing_served", "proved", "login_refused", "host_refused"}  # fmt: skip
    assert not wrong & TIMED
    for name, (args, examples) in EXAMPLES.items():
        one = checks.FACTORIES[name](*args)
        for events in examples["fail"]:
            for share, counts in ((0.2, False), (0.8, True)):
                waits = [busy(t / 10, (t + 1) / 10, share * 100) for t in range(20, 50)]
                expected = "unknown" if counts and name in TIMED else "fail"
                if name not in ("stall_below", "kernel_quiet"):  # each by what it saw
                    found = verdict(one, *all_seen(one), *events, *waits)
                    assert found[0] == expected, (name, share)


@pytest.mark.parametrize(
    ("line", "on_busy"),
    [
        ("BUG: kernel NULL pointer dereference, address: 0", "fail"),
        ("kernel BUG at drivers/target/target_core_transport.c:900!", "fail"),
        ("WARNING: CPU: 0 PID: 7 at lib/list_debug.c:51", "fail"),
        ("Kernel panic - not syncing: Fatal exception", "fail"),
        ("I/O error, dev sda, sector 8", "unknown"),
        ("INFO: task dd:99 blocked for more than 10 seconds.", "unknown"),
        ("watchdog: BUG: soft lockup - CPU#0 stuck for 26s!", "unknown"),
    ],
)
def test_a_bug_of_a_kernel_is_no_business_of_the_machine(line, on_busy):
    said = event(3, "a1", "kernel-message", line=line)
    assert verdict(checks.kernel_quiet(), said)[0] == "fail"
    assert verdict(checks.kernel_quiet(), said, busy(3, 3.6, 600))[0] == on_busy
    late = event(2, "a1", "kernel-message", line="I/O error, dev sda")
    assert verdict(checks.kernel_quiet(), late, said, busy(3, 3.6, 600))[0] == on_busy


def test_a_moment_of_business_excuses_nothing():
    late = [*STEADY, event(9, "lab", "wait-timeout", what="a login", last="none")]
    assert verdict(checks.reached(), *late, busy(3, 3.3, 300))[0] == "fail"
    assert verdict(checks.reached(), *late, busy(3, 3.6, 600))[0] == "unknown"


# --- clocks ---------------------------------------------------------------------------------


def clock(where, within, offset=0.0):
    return event(0, where, "clock", moment="begin", offset_ms=offset, within_ms=within)


ARRAY = event(0, "lab", "config", kernels=["h1", "a1"], hosts=["h1"])


@pytest.mark.parametrize(
    ("clocks", "expected"),
    [
        ([], "fail"),  # 1.1 s too late, by one clock
        ([ARRAY, clock("a1", 50)], "fail"),
        ([ARRAY, clock("a1", 150)], "unknown"),
        ([ARRAY, clock("a1", 20, offset=-130)], "unknown"),
        ([ARRAY, clock("h1", 900), clock("a1", 1)], "fail"),  # a host's clock does not matter
        ([clock("p1", 150)], "unknown"),  # a head's own
    ],
)
def test_a_time_between_two_kernels_within_their_uncertainty_is_unknown(clocks, expected):
    late = [address(0, "p1"), *move(5.01, "p1", "p2"), *move(9.1, "p2", "p1")]
    faults = [fault(5), fault(6, "end")]
    one = checks.home_after_hold(VIRTUAL, 2.0)
    assert verdict(one, *all_seen(one), *late, *faults, *clocks)[0] == expected


def test_a_pass_within_the_uncertainty_is_unknown_too():
    events = [address(0, "p1"), *move(5.01, "p1", "p2"), *move(8.95, "p2", "p1")]
    one = checks.home_after_hold(VIRTUAL, 2.0)
    of = [*seen("addresses", "a1"), *events, fault(5), fault(6, "end"), ARRAY]
    assert verdict(one, *of, clock("a1", 40))[0] == "pass"
    assert verdict(one, *of, clock("a1", 60))[0] == "unknown"


def test_ports_of_one_kernel_have_one_clock():
    of = [ARRAY, clock("a1", 10)]
    assert apart_ms(timeline_of(*of), {"p1", "p2"}) == 0
    assert apart_ms(timeline_of(*of), {"p1", "h1"}) == 10
    assert apart_ms(timeline_of(clock("p1", 1), clock("p2", 2, offset=-0.5)), {"p1", "p2"}) == 3.5


def test_the_move_of_an_address_says_how_well_the_clocks_agree():
    assert checks.measures(timeline_of(ARRAY, clock("a1", 3)))["clocks_within_ms"] == 3


def test_what_moves_when_the_lab_is_taken_down_needs_no_fence():
    events = [address(0, "a"), event(2, "a", "power", what="fenced"), address(3, "b")]
    home = [address(6, "b", "del"), address(7, "a")]
    one = checks.fenced_before_moved()
    assert verdict(one, *all_seen(one), *events, *home)[0] == "fail"
    down = event(5, "lab", "moment", name="take-down")
    assert verdict(one, *all_seen(one), *events, *home, down)[0] == "pass"


def test_a_fence_and_a_move_within_what_the_clocks_may_differ_are_unknown_both_ways():
    one, clocks = checks.fenced_before_moved(), [clock("a", 1), clock("b", 1)]
    for cut, expected in ((2.99, "pass"), (2.9995, "unknown"), (3.0005, "unknown"), (3.01, "fail")):
        events = [address(0, "a"), event(cut, "a", "power", what="fenced"), address(3, "b")]
        assert verdict(one, *all_seen(one), *events, *clocks)[0] == expected, cut


def test_a_busy_second_of_a_long_run_excuses_nothing():
    late = [*STEADY, event(30, "lab", "wait-timeout", what="a login", last="none")]
    run = [event(1, "lab", "moment", name="built"), event(31, "lab", "moment", name="take-down")]
    assert verdict(checks.reached(), *late, *run, busy(3, 4, 1000))[0] == "fail"
    assert verdict(checks.reached(), *late, *run, busy(3, 5, 2000))[0] == "unknown"
