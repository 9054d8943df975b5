"""Figures and sentences with two hosts, several loads and faults: none takes another's."""

import pytest
from fault_examples import (
    HOME,
    fault,
    moment,
    move,
)
from session_events import (
    CONFIG,
    FAULT,
    MACS,
    MOVE,
    P1,
    P2,
    P3,
    READ_BACK,
    STEADY,
    VERIFIED,
    VIRTUAL,
    address,
    claim,
    io,
    load,
    login,
    session,
)
from test_checks import timeline_of

from lab.checks import measures
from lab.report.run import Run
from lab.report.story import figures, sentences, steps

IP2 = "10.0.0.2"


def of(host, events, later=0.0):
    return [{**e, "where": host, "t": e["t"] + later} for e in events]


STALLED = [e for e in STEADY if not 0.2 < e["t"] < 0.8]  # from 0.2 s to 0.8 s
END = [*READ_BACK, VERIFIED]
WRITTEN = {e["block"] for e in STALLED if e["kind"] == "io"}
END_OF_2 = [e for e in READ_BACK if e["block"] in WRITTEN] + [VERIFIED]
TWO_HOSTS = [*STEADY, *of("h2", STALLED, 0.005), *END, *of("h2", END_OF_2)]


def run_of(*events):
    timeline = timeline_of(*events)
    return Run({"measures": measures(timeline)}, timeline)


def shown(*events):
    return {caption: (figure, detail) for caption, figure, detail in figures(run_of(*events))}


class TestFigures:
    def test_each_host_has_its_own(self):
        found = measures(timeline_of(*TWO_HOSTS, *of("h2", [io(0.5, "EIO")]), login(0, host="h2")))
        assert found["stall_ms"] == {"h1": pytest.approx(100), "h2": pytest.approx(600)}
        assert found["iops"] == {"h1": 9.0, "h2": 4.0}
        assert found["acked_writes"] == 13
        assert (found["io_errors"], found["lost_writes"], found["logins"]) == (1, 0, 1)

    def test_only_what_completed_under_load_counts_for_iops(self):
        found = measures(timeline_of(*STEADY, io(1.5), io(0.5, "EIO"), *load(2, 3)))
        assert found["iops"] == {"h1": 4.5}

    def test_a_read_is_no_acknowledged_write(self):
        assert measures(timeline_of(*STEADY, io(0.5, op="read")))["acked_writes"] == 9

    def test_what_is_lost_on_each_host_is_lost(self):
        bad = {"lost": [1, 2], "torn": [3]}
        found = measures(timeline_of(*TWO_HOSTS, *of("h2", [{**VERIFIED, **bad}], 1)))
        assert (found["lost_writes"], found["torn_writes"]) == (2, 1)

    @pytest.mark.parametrize(
        "events",
        [
            STEADY,
            TWO_HOSTS[:-1],
            [*TWO_HOSTS, io(3, host="h2")],
            [*TWO_HOSTS[:-1], *of("h2", [{**VERIFIED, "blocks": 0}])],
        ],
    )
    def test_what_was_not_read_back_is_not_known_to_be_there(self, events):
        found = measures(timeline_of(*events))
        assert (found["lost_writes"], found["torn_writes"]) == (None, None)
        assert shown(*events)["Writes acknowledged"][1] == "not read back"

    def test_what_is_known_to_be_lost_is_told_though_not_all_was_read_back(self):
        events = [*TWO_HOSTS[:-2], {**VERIFIED, "lost": [3]}]
        assert measures(timeline_of(*events))["lost_writes"] == 1
        assert shown(*events)["Writes acknowledged"] == ("13", "1 lost")

    def test_each_move_counts_from_its_own_fault_to_the_first_notice(self):
        moves = [
            CONFIG, address(0, "p1"), address(0, "p3", ip=IP2),
            fault(4), fault(4.5, "end"),  # nobody moved
            fault(5), *move(5.01, "p1", "p2"), fault(5.5, "end"), *move(5.7, "p2", "p3"),
            fault(7), *move(7.05, "p3", "p1"), fault(8), *move(8.03, "p1", "p2"),
        ]  # fmt: skip
        found = measures(timeline_of(*moves))["address_move_ms"]
        assert found == {VIRTUAL: pytest.approx(60)}

    def test_an_address_that_comes_back_to_its_port_has_not_moved(self):
        events = [HOME, fault(5), address(5.01, "p1", "del"), address(5.02, "p1")]
        assert measures(timeline_of(*events))["address_move_ms"] == {}

    def test_the_worst_of_several_is_shown(self):
        second = [address(0, "p3", ip=IP2), address(5.03, "p3", "del", IP2),
                  address(5.09, "p1", ip=IP2)]  # fmt: skip
        found = shown(*TWO_HOSTS, *MOVE, {**FAULT, "where": "p1"}, *second)
        assert found["Longest gap in I/O"] == ("600 ms", "on h2")
        assert found["Address moved in"] == ("90.0 ms", f"{VIRTUAL}, {IP2}")
        assert found["Writes acknowledged"] == ("13", "0 lost")
        assert found["I/O errors"][0] == "0"

    def test_who_served_each_host(self):
        found = shown(
            CONFIG, login(0, P1, "0x0000", None), login(0, P2, "0x0000", None, "h2"),
            login(5, P3, "0x0000", None, "h2"), login(6, P2, "0x0300", None), moment(9, "done"),
        )  # fmt: skip
        assert found["h1 served by"] == ("p1", f"{P1} at the end")
        assert found["h2 served by"] == ("p2 → p3", f"{P3} at the end")


class TestReport:
    def test_the_gaps_of_each_host(self):
        run = run_of(*TWO_HOSTS, io(0.5, "EIO", host="h2"))
        assert {h: round(g[0].ms) for h, g in run.gaps.items()} == {"h1": 100, "h2": 600}
        assert "The longest gap in completed I/O was 600 ms." in sentences(run)

    def test_zero_is_the_first_load(self):
        assert run_of(*STEADY, *of("h2", STEADY, 5)).origin == 0

    def test_a_host_without_io_has_no_gap(self):
        events = [*STEADY, *of("h2", load(0, 9))]
        assert (
            set(run_of(*events).gaps) == set(measures(timeline_of(*events))["stall_ms"]) == {"h1"}
        )

    def test_which_port_served_each_host_and_until_when(self):
        run = run_of(
            CONFIG, address(0, "p2", ip=P2), login(1, P1, "0x0000", None),
            login(3, P2, "0x0000", None), session(5, "after", current=f"{P3}:3260"),
            session(1, "before", "h2", current=f"{P2}:3260"), address(6, "p2", "del", P2),
            address(6, "p3", ip=P2), moment(9, "done"),
        )  # fmt: skip
        served = {h: [(s.begin, s.end, s.port) for s in found] for h, found in run.served.items()}
        assert served["h1"] == [(1, 3, "p1"), (3, 6, "p2"), (6, run.end, "p3")]
        assert served["h2"] == [(1, 6, "p2"), (6, run.end, "p3")]

    def test_announcements_of_two_addresses_at_once_are_two(self):
        same = [claim(5, MACS["p2"]), claim(5.0001, MACS["p2"]), claim(5, MACS["p2"], ip=IP2)]
        assert [e["address"] for e in run_of(*same).announced] == [VIRTUAL, IP2]

    def test_logins_are_told_of_the_fault_that_they_followed(self):
        told = sentences(run_of(CONFIG, fault(1), login(2, P1, "0x0000", None), fault(3),
                                login(5, P3, "0x0000", None), moment(9, "done")))  # fmt: skip
        assert [line for line in told if "logged in" in line] == [
            "h1 logged in at 10.0.0.11 (p1) 1.00 s after the fault.",
            "h1 logged in at 10.0.0.13 (p3) 2.00 s after the fault.",
        ]

    def test_each_host_is_judged_by_its_own_load(self):
        run = run_of(*STEADY, *of("h2", STEADY, 5))
        assert {h: round(g[0].ms) for h, g in run.gaps.items()} == {"h1": 100, "h2": 100}

    def test_the_gap_of_each_host_is_told_among_the_steps(self):
        run = run_of(*TWO_HOSTS, fault(0.15), fault(0.9, where="p2"))
        first, second = ([s["who"] for s in steps(run, f, f.begin + 1)] for f in run.faults)
        assert "h2" in first
        assert "h2" not in second

    def test_a_fault_ends_with_its_own_end(self):
        both = [fault(1), fault(2, where="p2"), fault(3, "end", where="p2"),
                fault(3.5, "end", name="frozen"), fault(4, "end"), moment(9, "done"),
                fault(5), fault(6, "end")]  # fmt: skip
        found = [(f.where, f.begin, f.end) for f in run_of(*both).faults]
        assert found == [("p1", 1, 4), ("p2", 2, 3), ("p1", 5, 6)]

    def test_a_fault_without_an_end_lasts_to_the_end(self):
        run = run_of(fault(1), fault(2, where="p2"), fault(3, "end", where="p2"))
        assert [(f.begin, f.end) for f in run.faults] == [(1, run.end), (2, 3)]

    def test_what_followed_is_told_of_the_fault_that_it_followed(self):
        told = sentences(run_of(CONFIG, HOME, fault(1), *move(1.01, "p1", "p2"), fault(2),
                                *move(2.04, "p2", "p1"), moment(9, "done")))  # fmt: skip
        assert [line for line in told if "was up on" in line] == [
            f"{VIRTUAL} was up on p2 20.0 ms after the fault.",
            f"{VIRTUAL} was up on p1 50.0 ms after the fault.",
        ]

    def test_the_first_login_of_each_host_is_told(self):
        told = sentences(run_of(CONFIG, login(0, P1, "0x0000", None), login(0.5),
                                login(1, P3, "0x0000", None, "h2"), fault(5)))  # fmt: skip
        assert told[:2] == ["h1 logged in at 10.0.0.11 (p1).", "h2 logged in at 10.0.0.13 (p3)."]
