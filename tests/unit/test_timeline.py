"""The timeline: order, the file, and what a full disk or a cut line does to it."""

from __future__ import annotations

import errno
import json
import threading
from pathlib import Path

import pytest

from lab.errors import BadInput
from lab.timeline import Timeline


def test_events_are_sorted_by_time_and_chosen_by_kind_and_place():
    timeline = Timeline()
    timeline.add("h1", "io", t=2.0, seq=2)
    timeline.add("h2", "io", t=1.5)
    timeline.add("h1", "io", t=1.0, seq=1)
    timeline.add("h1", "load", t=0.5)
    assert [e["seq"] for e in timeline.events("io", "h1")] == [1, 2]
    assert [e["t"] for e in timeline] == [0.5, 1.0, 1.5, 2.0]
    assert [e["t"] for e in timeline.events(where="h2")] == [1.5]


def test_now_is_the_time_of_an_event_without_one():
    timeline = Timeline()
    first, second = timeline.add("a", "b"), timeline.add("a", "b")
    assert 1.7e9 < first["t"] <= second["t"]


def test_the_file_has_each_event_at_once_and_is_read_back(tmp_path):
    timeline = Timeline(tmp_path / "t")
    timeline.add("h1", "io", t=2.0, status="ok")
    assert json.loads((tmp_path / "t").read_text())["status"] == "ok"
    timeline.extend([{"t": 1.0, "where": "h1", "kind": "load", "note": "ä\u2028b"}])
    timeline.close()
    timeline.close()
    timeline.add("h1", "io", t=3.0)  # kept, though no longer written
    assert [e["t"] for e in timeline] == [1.0, 2.0, 3.0]
    assert Timeline.read(tmp_path / "t").events() == timeline.events()[:2]


@pytest.mark.parametrize("cut", [b'{"t": 3.0, "wh', b'{"t": 3.0, "where": "\xc3', b"", b"7"])
def test_a_last_line_that_was_cut_is_left_out(tmp_path, cut):
    path = tmp_path / "t"
    timeline = Timeline(path)
    timeline.add("a", "b", t=1.0)
    timeline.add("a", "b", t=2.0)
    timeline.close()
    path.write_bytes(path.read_bytes() + cut)
    assert [e["t"] for e in Timeline.read(path)] == [1.0, 2.0]


@pytest.mark.parametrize("bad", ['{"t": 1.0, "whe', "7", '{"t": 1.0}'])
def test_any_other_bad_line_is_named(tmp_path, bad):
    good = json.dumps({"t": 1.0, "where": "a", "kind": "b"})
    (tmp_path / "t").write_text(f"{good}\n{bad}\n{good}\n")
    with pytest.raises(BadInput, match=r"/t:2: "):
        Timeline.read(tmp_path / "t")


def test_a_full_disk_is_kept_as_the_failure():
    timeline = Timeline(Path("/dev/full"))
    timeline.add("a", "b", t=1.0)
    first = timeline.failure
    assert first
    assert first.errno == errno.ENOSPC
    timeline.add("a", "b", t=2.0)
    assert timeline.failure is first
    assert [e["t"] for e in timeline] == [1.0, 2.0]
    timeline.close()


def test_no_failure_without_one(tmp_path):
    timeline = Timeline(tmp_path / "t")
    timeline.add("a", "b")
    assert timeline.failure is None


def test_threads_do_not_tear_lines(tmp_path):
    timeline = Timeline(tmp_path / "t")
    threads = [
        threading.Thread(target=lambda n=n: [timeline.add(f"h{n}", "io", x="y" * 99) for _ in "ab"])
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Timeline.read(tmp_path / "t").events("io")) == 16
