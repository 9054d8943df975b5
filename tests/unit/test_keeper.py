"""The keeper of the virtual port: what has died is started again, until it is told to stop."""

import threading

from lab.array.keeper import Keeper
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


def kept(port):
    said = []
    keeper = Keeper(port, said.append)
    keeper.start()
    return keeper, said


def test_it_is_started_again():
    port = Port()
    keeper, said = kept(port)
    port.running = False
    wait_for("it to run", lambda: port.running, seconds=5)
    keeper.let_go()
    assert [e["what"] for e in said] == ["died", "restarted"]
    assert port.calls == ["kill", "restart"]


def test_it_is_tried_again_where_it_cannot_be_started_yet():
    port = Port(refusals=3)
    keeper, said = kept(port)
    port.running = False
    wait_for("it to run", lambda: port.running, seconds=5)
    keeper.let_go()
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
    keeper, said = kept(port)
    keeper.kill()
    wait_for("it to run", lambda: port.running, seconds=5)
    keeper.let_go()
    assert not port.too_early
    assert [e["what"] for e in said] == ["died", "restarted"]
    assert port.calls == ["kill", "kill", "restart"]


def test_it_is_left_alone_when_the_array_is_switched_off():
    port = Port()
    keeper, said = kept(port)
    keeper.let_go()
    port.running = False
    assert not [t for t in threading.enumerate() if t is keeper._thread]
    assert (said, port.calls) == ([], [])
    keeper.let_go()
