"""The history of a block: what a register may do, held against a search of all its orders."""

from __future__ import annotations

import os
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_events import event, load
from test_checks import timeline_of
from test_writer import disk  # noqa: F401, a fixture

from lab.checks import no_lost_writes
from lab.checks.history import Operation, history, judge_block
from lab.guest.files import writer as writing


def write(value, start, end, sure=True):
    return Operation("write", value, start, end, sure)


def read(value, start, end):
    return Operation("read", value, start, end)


def kinds(*operations):
    return [w.kind for w in judge_block(5, operations)[1]]


def test_what_a_register_may_do():
    assert kinds() == []
    assert kinds(read(0, 0, 1), write(1, 2, 3), read(1, 4, 5)) == []
    # Two at once: either may be the last; a read at the same time may see the old or the new.
    assert kinds(write(1, 0, 4), write(2, 1, 3), read(1, 5, 6)) == []
    assert kinds(write(1, 0, 4), write(2, 1, 3), read(2, 5, 6)) == []
    assert kinds(write(1, 0, 1), write(2, 2, 6), read(1, 3, 4), read(2, 4.5, 5)) == []
    # A write that failed may be there or not, until the next one.
    assert kinds(write(1, 0, 1), write(2, 2, 3, sure=False), read(1, 4, 5)) == []
    assert kinds(write(1, 0, 1), write(2, 2, 3, sure=False), read(2, 4, 5)) == []
    assert kinds(write(1, 0, 1), write(2, 2, 3, sure=False), read(1, 4, 5), read(2, 6, 7)) == []


def cut_off(*reports):
    """A load without an end: its program was killed. Then its block was read in the LUN's file."""
    writes = [event(t, "h1", "io", op="write", seq=seq, block=5, start=t - 0.1, status="ok")
              for seq, t in reports]  # fmt: skip
    begin = event(0.5, "h1", "load", phase="begin", name="writer")
    return [begin, *writes, event(9.0, "h1", "lun-file", file="lun1", found=[[5, 3]])]


def test_what_a_load_that_was_cut_off_did_not_report():
    past = history(timeline_of(*cut_off((1, 1.0), (2, 2.0))), "h1")
    assert past.wrong == []  # write 3 was under way, or was not reported
    past = history(timeline_of(*cut_off((1, 1.0), (3, 2.0), (4, 3.0))), "h1")
    assert [w.kind for w in past.wrong] == ["lost"]  # 4 was acknowledged, and 3 is older


def test_what_was_in_flight_when_the_power_went_may_have_a_lower_number_than_the_last_report():
    ended = event(8.0, "h1", "load", phase="end", name="writer")
    recalled = event(8.5, "h1", "recalled", newest=20)
    past = history(timeline_of(*cut_off((1, 1.0), (2, 2.0)), ended, recalled), "h1")
    assert past.wrong == []  # write 3 was not reported
    past = history(timeline_of(*cut_off((1, 1.0), (4, 2.0)), ended, recalled), "h1")
    assert [w.kind for w in past.wrong] == ["never written"]  # 3 cannot come after 4


def test_a_load_that_ended_reported_all():
    ended = event(8.0, "h1", "load", phase="end", name="writer")
    past = history(timeline_of(*cut_off((1, 1.0), (2, 2.0)), ended), "h1")
    assert [w.kind for w in past.wrong] == ["never written"]


def test_only_the_load_that_was_cut_off_may_have_written_more_than_it_reported():
    """The first one ended: what it did not write and its read found is none of its writes."""
    found = event(2.0, "h1", "io", op="read", seq=9, block=5, start=1.5, status="ok")
    first = [*load(0.5, 3.0), *cut_off((1, 1.0))[1:2], found]
    second = [event(t + 4, "h1", kind, **more) for t, kind, more in (
        (0.0, "load", {"phase": "begin", "name": "writer"}),
        (1.0, "io", {"op": "write", "seq": 1, "block": 5, "start": 4.5, "status": "ok"}),
    )]  # fmt: skip
    recalled = event(6.0, "h1", "recalled", newest=1)
    for more in ([], [recalled]):
        past = history(timeline_of(*first, *second, *more), "h1")
        assert [w.kind for w in past.wrong] == ["never written"]


@pytest.mark.parametrize(
    ("expected", "operations"),
    [
        ("lost", [write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)]),
        ("lost", [write(1, 0, 1), read(0, 2, 3)]),
        ("lost", [write(1, 0, 1), read("blank", 2, 3)]),
        ("stale", [write(1, 0, 1), write(2, 2, 3), read(1, 4, 5), read(2, 6, 7)]),
        ("reordered", [write(1, 0, 1, sure=False), write(2, 2, 3), read(1, 4, 5)]),
        ("torn", [write(1, 0, 1), read("torn", 2, 3)]),
        ("misplaced", [write(1, 0, 1), read("misplaced", 2, 3)]),
        ("never written", [write(1, 0, 1), read(7, 2, 3)]),
        ("never written", [read(1, 0, 1), write(1, 2, 3)]),
        # Seen, and then not any more.
        ("lost", [write(1, 0, 1), write(2, 2, 9), read(2, 3, 4), read(1, 5, 6)]),
    ],
)
def test_what_it_may_not(expected, operations):
    _, (wrong, *others) = judge_block(5, operations)
    assert (wrong.kind, wrong.block, others) == (expected, 5, [])


def test_a_read_that_began_as_its_write_ended_has_read_it_back():
    """Also in Unix seconds, of which a float tells no billionths."""
    now = 1_800_000_000.125
    assert judge_block(5, [write(1, now - 1, now), read(1, now, now + 1)]) == (0, [])
    assert judge_block(5, [write(1, now - 1, now), read(1, now - 0.5, now + 1)]) == (1, [])


def test_what_nobody_read_back_is_counted():
    assert judge_block(5, [write(1, 0, 1), read(1, 2, 3), write(2, 4, 5)])[0] == 1
    assert judge_block(5, [write(1, 0, 1), write(2, 4, 5), read(2, 6, 7)])[0] == 1
    assert judge_block(5, [write(1, 0, 1), read(1, 2, 3), write(2, 4, 5), read(2, 6, 7)])[0] == 0


# --- against a search of all orders -------------------------------------------------------------


@st.composite
def histories(draw):
    """Up to three writes and three reads of one block, at times that all differ."""
    writes, reads = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    times = draw(st.permutations(range(2 * (writes + reads))))
    spans = [sorted(times[2 * n : 2 * n + 2]) for n in range(writes + reads)]
    done = [write(n + 1, *spans[n]) for n in range(writes)]
    values = [draw(st.integers(0, writes)) for _ in range(reads)]
    return done + [read(v, *spans[writes + n]) for n, v in enumerate(values)]


def possible(operations):
    """Whether any order of the operations that keeps their times is one of a register."""
    for order in permutations(operations):
        if any(b.end < a.start for at, a in enumerate(order) for b in order[at + 1 :]):
            continue
        held = 0
        for one in order:
            if one.op == "write":
                held = one.value
            elif one.value != held:
                break
        else:
            return True
    return False


@settings(max_examples=400, deadline=None)
@given(histories())
def test_the_zones_collide_where_no_order_explains_the_reads(operations):
    assert (judge_block(5, operations)[1] == []) == possible(operations)


# --- the writer's own history -------------------------------------------------------------------


class Drops:
    """A disk that acknowledges some writes without keeping them."""

    def __init__(self, dropped: set[int]) -> None:
        self.dropped, self.count, self.real = dropped, 0, os.pwritev

    def __call__(self, fd, buffers, offset):
        self.count += 1
        if self.count in self.dropped:
            return sum(len(b) for b in buffers)
        return self.real(fd, buffers, offset)


def run(monkeypatch, path, writes, dropped=(), **options):
    """The events of a load in this process on `path`, with some of its writes dropped."""
    said: list[dict] = []
    drops = Drops(set(dropped))
    monkeypatch.setattr(writing, "say", said.append)
    monkeypatch.setattr(writing, "REPORT_SECONDS", -1.0)
    monkeypatch.setattr(writing.os, "pwritev", drops)
    full = lambda *_: ([0] if drops.count >= writes else [], [], [])  # noqa: E731
    monkeypatch.setattr(writing.select, "select", full)
    size = options.get("size", 1)
    writer = writing.Writer(str(path), 64, 7, **options)
    writer.write_until_told()
    writer.verify()
    io = [
        event(end, "h1", "io", op=op, seq=seq, block=block, start=start, status=status, blocks=size)
        for m in said for op, seq, block, start, end, status in m.get("io", ())
    ]  # fmt: skip
    first, last = min(e["start"] for e in io), max(e["t"] for e in io)
    verified = [event(last, "h1", "verified", **m["verified"]) for m in said if "verified" in m]
    return timeline_of(*load(first, last), *io, *verified)


@pytest.mark.parametrize("later", [300, 1200, 3000, 6000])
def test_every_dropped_write_is_found_however_many_follow(monkeypatch, disk, later):  # noqa: F811
    """Of 20 acknowledged and dropped writes, 15, 9, 1, 0 were found after so many more."""
    found = run(monkeypatch, disk, 100 + later, dropped=range(70, 110, 2))
    assert history(found, "h1").lost == 20
    answer, said = no_lost_writes("h1").look(found)
    assert answer == "fail"
    assert said.startswith("20 acknowledged writes lost and 0 blocks torn on h1; the first: write ")


@pytest.mark.parametrize("options", [{}, {"size": 16}, {"depth": 8}, {"size": 4, "depth": 4}])
def test_a_disk_that_keeps_all_loses_none(monkeypatch, disk, options):  # noqa: F811
    found = run(monkeypatch, disk, 500, **options)
    past = history(found, "h1")
    assert (past.lost, past.unread, past.wrong) == (0, 0, [])
    assert past.writes >= 500
    assert no_lost_writes("h1").look(found)[0] == "pass"


@pytest.mark.parametrize("options", [{"size": 16}, {"depth": 8}])
def test_a_dropped_write_of_many_blocks_or_at_any_depth_is_one(monkeypatch, disk, options):  # noqa: F811
    found = run(monkeypatch, disk, 500, dropped={100, 200, 300}, **options)
    assert history(found, "h1").lost == 3


def test_the_file_outside_must_agree(monkeypatch, disk):  # noqa: F811
    found = run(monkeypatch, disk, 200)
    last = {}
    for e in found.events("io"):
        if e["op"] == "write":
            last[e["block"]] = e["seq"]
    whole = [[block, seq] for block, seq in last.items()]
    t = max(e["t"] for e in found) + 1
    for held, expected in ((whole, "pass"), ([[*whole[0][:1], "blank"], *whole[1:]], "fail"),
                           ([[whole[0][0], whole[0][1] - 64], *whole[1:]], "fail")):  # fmt: skip
        of = timeline_of(*found, event(t, "h1", "lun-file", file="x.img", found=held))
        assert no_lost_writes("h1").look(of)[0] == expected
    unread = timeline_of(*found, event(t, "h1", "lun-file", what="x.img: Input/output error"))
    assert no_lost_writes("h1").look(unread)[0] == "unknown"


def test_a_place_that_cannot_be_read_back_is_not_overwritten(monkeypatch, disk):  # noqa: F811
    real = os.preadv
    monkeypatch.setattr(writing.time, "sleep", lambda _: None)

    def unreadable(fd, buffers, offset):
        if offset == 5 * writing.BLOCK:
            raise OSError(5, "Input/output error")
        return real(fd, buffers, offset)

    monkeypatch.setattr(writing.os, "preadv", unreadable)
    found = run(monkeypatch, disk, 300)
    assert sum(e["op"] == "write" and e["block"] == 5 for e in found.events("io")) == 1


def test_a_limited_rate(monkeypatch, disk):  # noqa: F811
    found = run(monkeypatch, disk, 30, rate=100)
    times = [e["start"] for e in found.events("io") if e["op"] == "write"]
    assert 0.25 < times[-1] - times[0] < 2
