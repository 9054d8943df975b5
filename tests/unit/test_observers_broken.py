"""Observers whose source ends, loses something or cannot be understood: they say so."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
from evidence_events import seen

from lab.checks import judge, one_owner_of_virtual_address
from lab.commands import LocalRunner
from lab.errors import CommandFailed, LabError
from lab.evidence import gaps
from lab.observe import Capture, GuestAddressWatcher, addresses
from lab.timeline import Timeline
from lab.waiting import wait_for

IP = """#!/bin/sh
# As ip(8) does: `monitor` tells of what `address add` and `del` change, `show` lists what is.
cd {folder}
case "$*" in
*monitor*) echo $$ > pid; exec tail -n +1 -s 0.01 -f told 2> /dev/null ;;
*show*) cat listed; sh ./while-listing ;;
*add*) echo "[2026-11-22T08:31:03.000000] 1: lo    inet $3 scope host lo" >> told ;;
*del*) echo "[2026-11-22T08:31:03.000000] Deleted 1: lo    inet $3 scope host lo" >> told ;;
esac
"""
OVERRUN = "netlink receive error No buffer space available (105)"
"""What rtnl_listen of iproute2 says, on standard error, when the kernel had to drop something."""


def line(port: str, op: str = "add") -> str:
    deleted = "Deleted " if op == "del" else ""
    return (
        f"[2026-11-22T08:31:04.000000] {deleted}3: {port}    inet 10.0.0.1/24 scope global {port}"
    )


class Guest:
    """This machine with an ip of our own, whose `monitor` tells what `tell` is given."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.ip = folder / "ip"
        self.ip.write_text(IP.format(folder=folder))
        self.ip.chmod(0o755)
        (folder / "told").write_text("")
        self.listed("p1")
        self.while_listing()
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
        self.timeline = Timeline()
        self.watcher = GuestAddressWatcher(self.timeline, LocalRunner("a1"), {}, folder / "log")

    def listed(self, port: str) -> None:
        shown = f"3: {port}    inet 10.0.0.1/24 scope global {port}\\       valid_lft forever\n"
        (self.folder / "listed").write_text(shown)

    def while_listing(self, *lines: str) -> None:
        script = "".join(f"echo '{one}' >> told\n" for one in lines)
        (self.folder / "while-listing").write_text(script)

    def tell(self, *lines: str) -> None:
        with (self.folder / "told").open("a") as told:
            told.write("".join(f"{one}\n" for one in lines))

    def end_monitor(self) -> None:
        os.kill(int((self.folder / "pid").read_text()), signal.SIGKILL)

    def gap(self) -> str:
        found = wait_for("a gap", lambda: gaps(self.timeline), seconds=5.0)
        return str(found[0]["what"])

    def moves(self) -> list[tuple[str, str]]:
        return [(e["op"], e["where"]) for e in self.timeline.events("address")]


@pytest.fixture
def guest(tmp_path, monkeypatch):
    return Guest(tmp_path, monkeypatch)


def test_an_ip_monitor_that_was_killed_is_a_gap(guest):
    with guest.watcher:
        guest.end_monitor()
        assert "ip monitor ended" in guest.gap()
        # Nobody saw this any more: a double owner.
        guest.tell(line("p2"))
    assert len(gaps(guest.timeline)) == 1
    guest.timeline.extend([*seen("capture", since=0), *seen("decoder", since=0)])
    (finding,) = judge(guest.timeline, [one_owner_of_virtual_address("10.0.0.1")])
    assert finding.verdict == "unknown"  # what was "never on two at once"
    assert "ip monitor ended" in finding.evidence


def test_an_ip_monitor_that_ends_just_before_the_end_is_a_gap(guest):
    with guest.watcher:
        guest.end_monitor()
        wait_for("its end", lambda: guest.watcher._process.poll() is not None, seconds=5.0)
    assert len(gaps(guest.timeline)) == 1


class Slow(LocalRunner):
    """A guest that is there, but too busy to answer."""

    def run(self, argv, **settings):
        if argv == ["true"]:
            raise CommandFailed(self.host, argv, None, "")
        return super().run(argv, **settings)


def test_an_ip_monitor_that_ends_in_a_guest_that_does_not_answer_in_time_is_a_gap(guest):
    guest.watcher._runner = Slow("a1")
    with guest.watcher:
        guest.end_monitor()
        wait_for("it to see that", lambda: not guest.watcher._mind.is_alive(), seconds=5.0)
    assert len(gaps(guest.timeline)) == 1


def test_an_ip_monitor_that_is_asked_to_end_is_none(guest):
    with guest.watcher:
        guest.tell(line("p1", "del"), line("p2"))
        wait_for("the move", lambda: len(guest.moves()) == 3, seconds=5.0)
    assert not gaps(guest.timeline)
    assert guest.watcher._up == {("p2", "10.0.0.1")}


def test_a_guest_whose_power_is_cut_is_none(guest):
    with guest.watcher:
        guest.watcher.lost()
        guest.end_monitor()
        wait_for("it to see that", lambda: not guest.watcher._mind.is_alive(), seconds=5.0)
    assert not gaps(guest.timeline)


def test_an_overrun_is_a_gap_and_what_was_missed_follows(guest):
    with guest.watcher:
        guest.listed("p3")
        stale = (line("p2"), line("p2", "del"))
        guest.while_listing(line("p2"), line("p2", "del"), line("p3"))
        guest.tell(OVERRUN, *stale)
        assert OVERRUN in guest.gap()
        wait_for("the fresh list", lambda: ("add", "p3") in guest.moves(), seconds=5.0)
    assert guest.watcher._up == {("p3", "10.0.0.1")}
    told = [(e["op"], e["where"]) for e in guest.timeline._events if e["kind"] == "address"]
    assert told == [("add", "p1"), ("del", "p1"), ("add", "p3")]


def test_ip_says_an_overrun_on_standard_error(guest):
    """So that is where it is looked for."""
    guest.ip.write_text(
        guest.ip.read_text().replace("exec tail", f"echo '{OVERRUN}' >&2; exec tail")
    )
    with guest.watcher:
        assert OVERRUN in guest.gap()


def test_what_ip_says_beside_that_is_in_the_log(guest):
    with guest.watcher:
        guest.tell("Dump was interrupted")
        log = guest.folder / "log"
        wait_for("it", lambda: "Dump was interrupted" in log.read_text(), seconds=5.0)


def test_a_line_that_breaks_the_watcher_is_a_gap_and_told_at_the_end(guest):
    odd = line("p2").replace("2026-11-22", "9999-99-99")
    guest.watcher.__enter__()
    guest.tell(odd)
    assert "9999-99-99" in guest.gap()
    with pytest.raises(LabError, match="a1: the watcher of addresses broke: .*9999-99-99"):
        guest.watcher.__exit__(None, None, None)


class Broken:
    """A file that cannot be written to, and not because of the disk."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")

    def tell(self) -> int:
        raise ValueError("broken on purpose")

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        self.file.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="packet sockets need root")
def test_a_recorder_that_breaks_is_a_gap_and_told_at_the_end(tmp_path):
    timeline = Timeline()
    recorder = Capture({"h1": "lo"}, tmp_path, timeline=timeline, full=True)
    recorder.__enter__()
    recorder._written.pop("h1").close()
    recorder._written["h1"] = Broken(tmp_path / "other")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("127.0.0.1", 9))
    wait_for("the end", lambda: not recorder._thread.is_alive(), seconds=5.0)
    with pytest.raises(LabError, match="recording broke: broken on purpose"):
        recorder.__exit__(None, None, None)
    (gap,) = gaps(timeline)
    assert gap["where"] == "h1"
    assert "broken on purpose" in gap["what"]


def test_a_list_that_a_change_interrupted_is_asked_for_again(monkeypatch):
    """pyroute2 hands it out all the same, and it may lack what was there all the time."""
    answers = [[{"header": {"flags": 0x10, "type": 0}}], []]

    class Route:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def get_addr(self):
            return answers.pop(0)

    monkeypatch.setattr(addresses, "IPRoute", Route)
    assert addresses.AddressWatcher(Timeline())._dump() == []
    assert answers == []
