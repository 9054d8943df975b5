"""Commands in a guest that end, or whose kernel does, under the hands of who uses them."""

import pytest

from lab.errors import LabError
from lab.evidence import gaps
from lab.observe import GuestAddressWatcher
from lab.suite.net import guest_network
from lab.timeline import Timeline
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


def test_an_ip_monitor_that_misses_something_or_ends_is_a_gap(tmp_path):
    (tmp_path / "work").mkdir()
    timeline = Timeline()
    with guest_network(tmp_path / "work", tmp_path) as net:
        net.array.run(["ip", "link", "add", "br0", "type", "bridge"])
        watcher = GuestAddressWatcher(timeline, net.array, {}, tmp_path / "log")

        def signal(name):
            net.array.run(["kill", f"-{name}", str(watcher._process._pid)])

        def here():
            return sorted(a for where, a in watcher._up if where == "br0")

        with watcher:
            signal("STOP")
            lines = [f"addr add 10.{n % 9}.{n // 9}.1/24 dev br0" for n in range(2000)]
            lines += [f"addr del 10.{n % 9}.{n // 9}.1/24 dev br0" for n in range(1, 2000)]
            lines += ["addr add 10.99.0.1/24 dev br0"]
            net.array.run(["ip", "-batch", "-"], stdin="\n".join(lines))
            signal("CONT")
            wait_for("the gap", lambda: gaps(timeline), seconds=5.0)
            wait_for(
                "what it missed",
                here,
                until=lambda up: up == ["10.0.0.1", "10.99.0.1"],
                seconds=10.0,
            )
            before = gaps(timeline)
            assert all("No buffer space available" in e["what"] for e in before)
            signal("KILL")
            wait_for(
                "another gap",
                lambda: [e["what"] for e in gaps(timeline)[len(before) :]],
                until=lambda whats: any("before it was asked to" in what for what in whats),
                seconds=5.0,
            )


def _refusal(program):
    try:
        program.send("three")
    except LabError as refused:
        return str(refused)
    return ""
