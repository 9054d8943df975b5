"""The watchdog: what has died is started again, until it is told to stop."""

import threading

from lab.array import watchdog
from lab.array.watchdog import Watchdog
from lab.errors import LabError
from lab.waiting import wait_for


class Port:
    """What answers at the virtual port; its first `refusals` restarts fail."""

    def __init__(self, refusals=0):
        self.running, self.refusals, self.calls = True, refusals, []

    def kill(self):
        self.calls.append("kill")

    def restart(self):
        self.calls.append("restart")
        if self.refusals:
            self.refusals -= 1
            raise LabError("the address is on its way")
        self.running = True


def watched(port):
    said = []
    watchdog = Watchdog(port, said.append)
    watchdog.start()
    return watchdog, said


def test_it_is_started_again():
    port = Port()
    watchdog, said = watched(port)
    port.running = False
    wait_for("it to run", lambda: port.running, seconds=5)
    watchdog.let_go()
    assert [e["what"] for e in said] == ["died", "restarted"]
    assert port.calls == ["kill", "restart"]


def test_it_is_tried_again_where_it_cannot_be_started_yet():
    port = Port(refusals=3)
    watchdog, said = watched(port)
    port.running = False
    wait_for("it to run", lambda: port.running, seconds=5)
    watchdog.let_go()
    assert [e["what"] for e in said] == ["died", "not-restarted", "restarted"]
    assert port.calls.count("restart") == 4


class SlowToDie(Port):
    """Its end is seen at once; to clear away its remains takes 0.2 s, if nobody is in a hurry."""

    def __init__(self):
        super().__init__()
        self.restarted, self.too_early = threading.Event(), False

    def kill(self):
        if self.running:
            self.running = False
            self.too_early = self.restarted.wait(0.2)
        super().kill()

    def restart(self):
        super().restart()
        self.restarted.set()


def test_it_is_not_started_again_before_its_remains_are_cleared_away():
    port = SlowToDie()
    watchdog, said = watched(port)
    watchdog.kill()
    wait_for("it to run", lambda: port.running, seconds=5)
    watchdog.let_go()
    assert not port.too_early
    assert [e["what"] for e in said] == ["died", "restarted"]
    assert port.calls == ["kill", "kill", "restart"]


def test_it_is_left_alone_when_the_array_is_switched_off():
    port = Port()
    watchdog, said = watched(port)
    watchdog.let_go()
    port.running = False
    wait_for("its thread to end", lambda: not watchdog._thread.is_alive(), seconds=5)
    assert (said, port.calls) == ([], [])
    watchdog.let_go()


class SlowToStart(Port):
    """It is being started until it is let through."""

    def __init__(self):
        super().__init__()
        self.starting, self.through = threading.Event(), threading.Event()

    def restart(self):
        self.starting.set()
        self.through.wait(10.0)
        super().restart()


def test_who_lets_it_go_waits_until_nothing_is_being_started():
    port = SlowToStart()
    watchdog, _ = watched(port)
    port.running = False
    assert port.starting.wait(5.0)
    letting_go = threading.Thread(target=watchdog.let_go)
    letting_go.start()
    letting_go.join(0.1)
    assert letting_go.is_alive()
    port.through.set()
    letting_go.join(5.0)
    assert not letting_go.is_alive()
    assert port.running


def test_it_is_not_started_behind_the_end():
    port, gate, told = Port(), threading.Event(), threading.Event()

    def say(event):
        told.set()
        gate.wait(10.0)

    watchdog = Watchdog(port, say)
    watchdog.start()
    port.running = False
    assert told.wait(5.0)
    watchdog.let_go()
    gate.set()
    wait_for("its thread to end", lambda: not watchdog._thread.is_alive(), seconds=5)
    assert port.calls == []


def test_it_says_when_it_gives_up_and_minds_no_other_error(monkeypatch):
    """Else a death would be the last that is heard, as if somebody still tried."""
    monkeypatch.setattr(watchdog, "_TRIES", 3)
    said: list[dict[str, str]] = []

    class Broken:
        running = False

        def kill(self):
            pass

        def restart(self):
            raise OSError("no more processes")

    dog = Watchdog(Broken(), said.append)
    dog.start()
    wait_for("it to give up", lambda: said and said[-1]["what"] == "given-up", seconds=5)
    dog.let_go()
    assert [one["what"] for one in said] == ["died", "not-restarted", "given-up"]
