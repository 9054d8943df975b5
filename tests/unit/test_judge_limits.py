"""The judge's limits, round by round: when a port is silent, and when hosts are asked."""

from __future__ import annotations

from test_controller_parts import ALL, rounds

from lab.controller.judge import Judge

WITHOUT_C = [pair for pair in ALL if "c" not in pair]
COUNT = 3
SELDOM = 5


def test_silent_after_exactly_so_many_rounds_also_right_after_the_start():
    judge = Judge(COUNT)
    rounds(judge, "abc", ALL)
    assert rounds(judge, "abc", WITHOUT_C, times=COUNT - 1)["c"] == "ok"
    assert rounds(judge, "abc", WITHOUT_C)["c"] == "silent"


def test_a_hosts_answer_counts_for_the_time_until_hosts_are_asked_again():
    judge = Judge(COUNT)
    rounds(judge, "abc", ALL)
    rounds(judge, "abc", WITHOUT_C, hosts="c")
    assert rounds(judge, "abc", WITHOUT_C, times=COUNT + SELDOM - 1)["c"] == "ok"
    assert rounds(judge, "abc", WITHOUT_C)["c"] == "silent"


def test_a_port_that_lost_its_carrier_comes_back_with_a_clean_record():
    judge = Judge(COUNT)
    rounds(judge, "abc", ALL)
    assert rounds(judge, "abc", WITHOUT_C, times=COUNT)["c"] == "silent"
    rounds(judge, "ab", WITHOUT_C)
    assert rounds(judge, "abc", WITHOUT_C, times=COUNT - 1)["c"] == "ok"
    assert rounds(judge, "abc", WITHOUT_C, times=2)["c"] == "silent"


def test_an_answer_from_before_a_lost_carrier_proves_nothing():
    judge = Judge(COUNT)
    rounds(judge, "abc", ALL, hosts="c")
    rounds(judge, "ab", WITHOUT_C)
    assert rounds(judge, "abc", WITHOUT_C, times=COUNT + 1)["c"] == "silent"


def test_the_last_port_that_is_not_silent_is_not_judged():
    judge = Judge(COUNT)
    rounds(judge, "ab", [("a", "b"), ("b", "a")])
    rounds(judge, "ab", [], hosts="a", times=COUNT + 1)
    assert rounds(judge, "ab", [], times=50) == {"a": "ok", "b": "silent"}


def test_of_two_ports_a_hosts_answer_must_be_newer_than_the_last_probe_by_a_round():
    for later, verdict in ((1, "suspect"), (2, "silent")):
        judge = Judge(COUNT)
        rounds(judge, "ab", [("a", "b"), ("b", "a")])
        for after in range(1, COUNT + 1):
            last = rounds(judge, "ab", [], hosts="a" if after == later else "")
        assert last == {"a": "ok", "b": verdict}


def test_hosts_are_asked_through_a_quiet_port_at_first_each_round_then_seldom():
    judge = Judge(COUNT)
    rounds(judge, "abc", ALL)
    asked = []
    for number in range(2, 21):
        rounds(judge, "abc", WITHOUT_C)
        assert set(judge.doubtful()) <= {"c"}
        asked += [number] * len(judge.doubtful())
    # Twice the count, and then each fifth round.
    assert asked == [2, 3, 4, 5, 6, 7, 10, 15, 20]


def test_hosts_are_asked_through_two_ports_in_doubt_and_never_through_one_alone():
    judge = Judge(COUNT)
    rounds(judge, "ab", [("a", "b"), ("b", "a")])
    rounds(judge, "ab", [])
    assert judge.doubtful() == ["a", "b"]
    alone = Judge(COUNT)
    for _ in range(2 * SELDOM):
        rounds(alone, "a", [])
        assert alone.doubtful() == []


def test_of_two_quiet_ports_the_one_that_is_left_alone_is_well_at_once():
    judge = Judge(COUNT)
    rounds(judge, "ab", [("a", "b"), ("b", "a")])
    rounds(judge, "ab", [], times=COUNT - 1)
    assert rounds(judge, "a", []) == {"a": "ok"}
    assert judge.doubtful() == []
