"""Commands in a guest that end, or whose kernel does, under the hands of who uses them."""

import pytest
from net import guest_network

from lab.errors import LabError
from lab.waiting import wait_for


def test_a_program_that_has_ended_is_told_nothing(tmp_path):
    (tmp_path / "work").mkdir()
    heard = []
    with guest_network(tmp_path / "work", tmp_path) as net:
        cat = net.array.start(["cat"], log=tmp_path / "log", on_line=heard.append)
        cat.send("one")
        wait_for("its answer", lambda: heard, seconds=5.0)
        cat.kill()
        with pytest.raises(LabError, match="a1: `cat` has ended; cannot send 'two'"):
            cat.send("two")
        cat.close_input()
        other = net.array.start(["cat"], log=tmp_path / "log", on_line=heard.append)
        net.guest.power_cut()
        wait_for("the connection to end", lambda: _refusal(other), seconds=10.0)
        other.close_input()
        with pytest.raises(LabError, match="a1: "):
            net.array.start(["cat"], log=tmp_path / "log")
    assert heard == ["one"]


def _refusal(program):
    try:
        program.send("three")
    except LabError as refused:
        return str(refused)
    return ""
