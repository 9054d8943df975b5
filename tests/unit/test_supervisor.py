"""The supervisor: a controller that died is started again, unless the array is being ended."""

import threading

import pytest

from lab.array.site import Site
from lab.array.supervisor import Supervisor
from lab.commands import LocalRunner
from lab.errors import LabError
from lab.timeline import Timeline
from lab.waiting import wait_for

SETTLED = (
    """echo '{"t": '$(date +%s.%N)', "where": "a1", "kind": "controller", "what": "settled"}'"""
)


class Place(Site):
    """Where a shell stands for the controller; it can refuse to start another one."""

    def __init__(self, folder):
        super().__init__(LocalRunner("a1"), folder)
        self.started, self.refuses = [], False

    def start_module(self, module, *arguments, log, on_line, **options):
        if self.refuses:
            raise LabError("a1: the SSH connection is gone")
        argv = ["sh", "-c", f"{SETTLED}; exec sleep 60"]
        self.started.append(self.runner.start(argv, log=log, on_line=on_line))
        return self.started[-1]


class Gate(Timeline):
    """Lets nobody on who tells of a death, until it is opened."""

    def __init__(self):
        super().__init__()
        self.reached, self.opened = threading.Event(), threading.Event()

    def add(self, where, kind, **details):
        if details.get("what") == "died":
            self.reached.set()
            self.opened.wait(10.0)
        return super().add(where, kind, **details)


@pytest.fixture
def supervised(tmp_path):
    place, timeline = Place(tmp_path), Gate()
    timeline.opened.set()
    made = Supervisor(place, {"array": "a1"}, timeline, tmp_path, lambda event: None)
    made.start()
    yield made, place, timeline
    timeline.opened.set()
    made.stop()
    assert [process.poll() for process in place.started] == [-9] * len(place.started)


def said(timeline, *what):
    """Wait until that is what was said of the controller, no more and no less."""
    wait_for(
        f"{what}",
        lambda: [e["what"] for e in timeline.events("controller")],
        until=lambda told: told == list(what),
        seconds=5.0,
    )


def test_it_is_started_again(supervised):
    made, place, timeline = supervised
    made.kill()
    said(timeline, "settled", "died", "settled")
    assert place.started[-1].poll() is None


def test_where_it_cannot_be_started_again_the_timeline_tells(supervised):
    made, place, timeline = supervised
    place.refuses = True
    made.kill()
    said(timeline, "settled", "died", "not-restarted")
    (refused,) = (e for e in timeline.events("controller") if e["what"] == "not-restarted")
    assert "the SSH connection is gone" in refused["why"]


def test_it_is_not_started_once_the_array_is_ended(supervised):
    made, place, timeline = supervised
    timeline.opened.clear()
    made.kill()
    assert timeline.reached.wait(5.0)
    made.stop()
    timeline.opened.set()
    said(timeline, "settled", "died")
    assert len(place.started) == 1
