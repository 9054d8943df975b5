"""A check of one's own, written with what lab.checks exports and nothing else."""

from lab.checks import (
    Answer,
    Look,
    Timeline,
    Verdict,
    check,
    failed,
    judge,
    overall,
    owners_at,
    passed,
    port_addresses,
    unknown,
)

FACTS = {"t": 0, "where": "lab", "kind": "config", "ports": {"p1": ["10.0.0.11"]}}
UP = {"t": 1, "where": "p1", "kind": "address", "op": "add", "source": "kernel",
      "address": "10.0.0.11"}  # fmt: skip
DOWN = {**UP, "t": 2, "op": "del"}


def at_home(port: str) -> Look:
    """The addresses of `port` are on it at the end."""

    def look(timeline: Timeline) -> Answer:
        addresses = port_addresses(timeline).get(port)
        if not addresses:
            return unknown(f"Nothing is known of {port}.")
        away = [one for one in addresses if owners_at(timeline, one) != {port}]
        return failed(f"Not on {port}: {away}.") if away else passed(f"All are on {port}.")

    return look


def test_a_check_of_ones_own(monkeypatch):
    monkeypatch.setattr("lab.checks.verdict.FACTORIES", {})  # where the suite's are
    own = check(at_home)
    for events, verdict in (
        ([FACTS, UP], Verdict.PASS),
        ([FACTS, UP, DOWN], Verdict.FAIL),
        ([], Verdict.UNKNOWN),
    ):
        timeline = Timeline()
        timeline.extend(events)
        (finding,) = judge(timeline, [own("p1")])
        assert (finding.name, finding.verdict) == ("at_home(p1)", verdict)
        assert overall([finding]) == verdict
