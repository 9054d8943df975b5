"""The supervisor: a controller that died is started again, unless the array is being ended."""

import json
import threading
import time

import pytest

from lab.array.orders import StandingOrders
from lab.array.site import Site
from lab.array.supervisor import Supervisor
from lab.commands import LocalRunner
from lab.errors import LabError
from lab.timeline import Timeline
from lab.waiting import wait_for

# It says that it has settled, and what it is told that it has said.
FOLLOW = (
    """echo '{"t": '$(date +%s.%N)', "where": "a1", "kind": "controller", "what": "settled"}'"""
    "; exec cat"
)


def order(what="order", **order):
    return {"t": time.time(), "where": "a1", "kind": "controller", "what": what, **order}


class Place(Site):
    """Where a shell stands for the controller; it can refuse to start another one."""

    def __init__(self, folder):
        super().__init__(LocalRunner("a1"), folder)
        self.started, self.configs, self.refuses, self.settles = [], [], False, True

    def start_module(self, module, *arguments, log, on_line, **options):
        if self.refuses:
            raise LabError("a1: the SSH connection is gone")
        self.configs.append(json.loads((self.folder / "controller.json").read_text()))
        argv = ["sh", "-c", FOLLOW if self.settles else "exit 7"]
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
    orders = StandingOrders()
    made = Supervisor(place, "a1", orders.config, timeline, tmp_path, orders.hear)
    made.start()
    yield made, place, timeline
    timeline.opened.set()
    made.stop()
    assert {process.poll() for process in place.started} <= {-9, 7}


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


def test_what_was_ordered_is_handed_to_the_next_one(supervised):
    made, place, timeline = supervised
    assert place.configs == [{"drained": [], "virtual_at": None}]
    made.tell(**order(command="drain", port="p3"))
    made.tell(**order(command="drain", port="p1"))
    made.tell(**order(command="undrain", port="p1"))
    made.tell(**order("refused", command="drain", port="p2"))
    made.tell(**order(command="move-vip", port="p2"))
    said(timeline, "settled", "order", "order", "order", "refused", "order")
    made.kill()
    wait_for("another one", lambda: len(place.configs) == 2, seconds=5.0)
    assert place.configs[1] == {"drained": ["p3"], "virtual_at": "p2"}
    ordered = ("order", "order", "order", "refused", "order")
    said(timeline, "settled", *ordered, "died", "settled")
    made.tell(**order(command="move-vip"))
    made.tell(**order(command="undrain", port="p3"))
    said(timeline, "settled", *ordered, "died", "settled", "order", "order")
    made.kill()
    wait_for("another one", lambda: len(place.configs) == 3, seconds=5.0)
    assert place.configs[2] == place.configs[0]


def test_one_that_never_settles_is_not_started_for_ever(supervised):
    made, place, timeline = supervised
    place.settles = False
    made.kill()
    wait_for(
        "it to be given up",
        lambda: [e for e in timeline.events("controller") if e["what"] == "not-restarted"],
        seconds=10.0,
    )
    *_, refused = timeline.events("controller")
    assert "has not settled" in refused["why"]
    assert len(place.started) == 1 + 20
