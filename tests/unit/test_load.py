"""The load's own end of the writer's protocol."""

from __future__ import annotations

import json
import time
from threading import Timer

import pytest

from lab.errors import LabError, WaitTimeout
from lab.load.writer import Writer
from lab.timeline import Timeline


class Guest:
    """A runner whose only process answers as it is told to."""

    host = "h1"

    def __init__(self) -> None:
        self.told: list[str] = []
        self.answers: dict[str, list[dict]] = {}
        self.status: int | None = None

    def start(self, argv, *, log, on_line=None, env=None):
        self.on_line, self.log = on_line, log
        self.say({"load": "begin", "t": 1.0})
        self.say({"io": [["write", 1, 5, 1.0, 1.1, "ok"], ["write", 2, 6, 1.1, 1.2, "EIO"]]})
        return self

    def say(self, *messages: dict) -> None:
        for message in messages:
            self.on_line(json.dumps(message))

    def send(self, line: str) -> None:
        self.told.append(line)
        self.say(*self.answers.get(line, ()))

    def poll(self) -> int | None:
        return self.status


@pytest.fixture
def guest() -> Guest:
    return Guest()


@pytest.fixture
def writer(guest, tmp_path) -> Writer:
    one = Writer(guest, Timeline(), tmp_path, program=["writer", "disk"], blocks=8, seed=1)
    one.start(1.0)
    return one


def test_operations_are_events(writer):
    assert writer.acknowledged == 1
    assert writer.acknowledged_blocks() == [5]
    assert [e["status"] for e in writer._timeline.events("io", "h1")] == ["ok", "EIO"]
    assert writer._timeline.events("load")[0] == {
        "t": 1.0, "where": "h1", "kind": "load", "phase": "begin", "name": "writer"
    }  # fmt: skip


def test_it_is_stopped_once(writer, guest):
    guest.answers["stop"] = [{"load": "end", "t": 2.0}]
    writer.stop(1.0)
    writer.stop(1.0)
    assert guest.told == ["stop"]


def test_each_read_back_is_waited_for(writer, guest):
    guest.answers["verify"] = [{"verified": {"blocks": 1, "lost": [], "torn": []}}]
    writer.verify(1.0)
    guest.answers = {}
    with pytest.raises(WaitTimeout, match="the read-back in h1"):
        writer.verify(0.05)
    assert guest.told == ["verify", "verify"]


def test_a_torn_line_is_left_out(writer, guest):
    guest.on_line('{"io": [["wri')
    assert writer.acknowledged == 1


def test_a_writer_that_ended_is_not_waited_for(writer, guest):
    guest.status = 1
    guest.log.write_text("no such device\n")
    with pytest.raises(LabError, match="h1: the writer ended before 3 more.*no such device"):
        writer.acknowledge(3, 60.0)


def test_only_what_begins_after_the_question_answers_it(writer, guest):
    """What a report tells that was under way as a fault began was written before the fault."""
    asked = time.time()
    before = {"io": [["write", n, n, asked - 0.1, asked - 0.05, "ok"] for n in range(3, 203)]}
    Timer(0.05, guest.say, [before]).start()
    with pytest.raises(WaitTimeout, match="2 more writes in h1.*201 writes acknowledged"):
        writer.acknowledge(2, 0.2)
    later = time.time() + 0.1
    after = {"io": [["write", n, n, later, later, "ok"] for n in (203, 204)]}
    Timer(0.05, guest.say, [after]).start()
    writer.acknowledge(2, 5.0)
