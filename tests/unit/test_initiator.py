"""Sessions as a guest's kernel tells them, and what open-iscsi's commands end with."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from lab.commands import Result
from lab.errors import CommandFailed, LabError, WaitTimeout
from lab.host.host import LabHost
from lab.host.initiator import Disk
from lab.host.open_iscsi import KIND, OpenIscsi, parse_sessions
from lab.load.writer import Writer
from lab.timeline import Timeline

IQN = "iqn.2026-01.lab.failover:a1"
# The kernel's tables have addresses in the byte order of the machine: this is a little-endian one.
TCP = """\
tcp|  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
tcp|   0: 6500000A:C822 0C00000A:0CBC 01 00000000:00000000 00:00000000 00000000     0
tcp|   1: 6500000A:C824 0C00000A:0CBC 06 00000000:00000000 00:00000000 00000000     0
"""
ONE = f"session|3|{IQN}|LOGGED_IN|10.0.0.12|3260|10.0.0.1|3260|51234\n"


def test_a_session_with_its_disk_and_connection():
    (session,) = parse_sessions(ONE + "disk|3|1|sda|131072|a1lun1\n" + TCP)
    assert session.sid == 3
    assert (session.target, session.state) == (IQN, "LOGGED_IN")
    assert (session.current, session.persistent) == ("10.0.0.12:3260", "10.0.0.1:3260")
    assert session.address == "10.0.0.12"
    assert (session.device, session.serial) == ("sda", "a1lun1")
    assert session.size_bytes == 64 << 20
    assert session.connection == "10.0.0.101:51234 10.0.0.12:3260"


def test_ipv6():
    text = f"session|1|{IQN}|LOGGED_IN|fd00:0:0:0:0:0:0:12|3260|[fd00::1]|3260|\n"
    ours, theirs = "000000FD000000000000000065000000", "000000FD000000000000000012000000"
    text += f"tcp|   0: {ours}:C822 {theirs}:0CBC 01 0\n"
    (session,) = parse_sessions(text)
    assert session.current == "[fd00::12]:3260"
    assert session.persistent == "[fd00::1]:3260"
    assert session.address == "fd00::12"
    assert session.connection == "[fd00::65]:51234 [fd00::12]:3260"


def test_the_lowest_lun_is_the_disk():
    disks = "disk|3|10|sda|8|ten\ndisk|3|2|sdb|16|two\ndisk|4|0|sdc|8|other\n"
    (session,) = parse_sessions(ONE + disks)
    assert (session.device, session.serial, session.size_bytes) == ("sdb", "two", 8192)
    assert session.disks == (Disk(2, "sdb", 8192, "two"), Disk(10, "sda", 4096, "ten"))


def test_two_sessions_with_one_portal_have_connections_of_their_own():
    other = ONE.replace("|3|", "|4|", 1).replace(":a1", ":b1").replace("51234", "51236")
    found = parse_sessions(ONE + other + TCP.replace(" 06 ", " 01 "))
    assert [session.connection.split()[0] for session in found] == [
        "10.0.0.101:51234", "10.0.0.101:51236"
    ]  # fmt: skip


def test_a_session_without_disk_or_connection():
    (session,) = parse_sessions(ONE)
    assert (session.device, session.serial, session.size_bytes) == ("", "", 0)
    assert session.disks == ()
    assert session.connection == ""


def test_a_session_that_is_being_recovered_or_comes_up():
    failed, new = parse_sessions(
        f"session|1|{IQN}|FAILED|||10.0.0.1|3260|\nsession|2|{IQN}|FREE|||(null)|0|\n" + TCP
    )
    assert (failed.current, failed.persistent) == ("", "10.0.0.1:3260")
    assert failed.connection == failed.address == ""
    assert (new.current, new.persistent) == ("", "")


def test_they_are_in_the_order_of_their_numbers():
    text = ONE.replace("|3|", "|10|", 1) + ONE.replace("|3|", "|9|", 1)
    assert [session.sid for session in parse_sessions(text)] == [9, 10]


def test_no_sessions():
    assert parse_sessions("") == []
    assert parse_sessions(TCP) == []


@pytest.mark.parametrize(
    "line", ["session|3|short", "session|x" + ONE[9:], ONE + "disk|3|1|sda", ONE + "disk|3|a|b|8|s"]
)
def test_what_it_cannot_read_is_shown(line):
    with pytest.raises(LabError, match="sessions cannot be read") as error:
        parse_sessions(line)
    assert line.strip() in str(error.value)


class Guest:
    """A runner that answers with what it was given, by the words of the command."""

    host = "h1"

    def __init__(self, **answers: str | int | list[str]) -> None:
        self.answers, self.asked = answers, []

    def run(self, argv, *, seconds=30.0, stdin=None, check=True):
        self.asked.append(" ".join(argv))
        (key,) = [k for k in self.answers if k in self.asked[-1]]
        answer = self.answers[key]
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, int):
            raise CommandFailed(self.host, argv, answer, "iscsiadm: it says why")
        return Result(0, answer)

    def start(self, argv, *, log, on_line=None, env=None):
        raise NotImplementedError


def initiator(**answers) -> tuple[OpenIscsi, Timeline]:
    timeline = Timeline()
    return OpenIscsi(Guest(**answers), timeline, Path("/nowhere")), timeline


def test_discovery_is_recorded():
    one, timeline = initiator(discovery=f"10.0.0.1:3260,1 {IQN}\n[fd00::1]:3260,1 {IQN}\n")
    assert one.discover("10.0.0.1") == ["10.0.0.1:3260", "[fd00::1]:3260"]
    (event,) = timeline.events("discovery", "h1")
    assert (event["asked"], event["portals"]) == ("10.0.0.1", ["10.0.0.1:3260", "[fd00::1]:3260"])


def test_login_returns_the_session_that_it_made_once_its_disk_is_there():
    other = ONE.replace("|3|", "|1|", 1).replace(":a1", ":a2") + "disk|1|1|sda|8|other\n"
    answers = [other, other + ONE, other + ONE + "disk|3|1|sdb|8|mine\n"]
    one, _ = initiator(iscsiadm="", sessions=answers)
    assert one.login(IQN, "10.0.0.1").serial == "mine"
    assert len(one._runner.asked) == 4


@pytest.mark.parametrize("status", [4, 5, 8, 11, 19, 24])
def test_what_the_array_refuses_did_not_come_about(status):
    one, _ = initiator(iscsiadm=status)
    with pytest.raises(WaitTimeout, match="it says why") as error:
        one.login(IQN, "10.0.0.1")
    assert error.value.seconds < 5  # what it took, not what was allowed


@pytest.mark.parametrize("status", [1, 7, 15, 21])
def test_what_is_broken_here_is_no_failure_of_the_array(status):
    one, _ = initiator(iscsiadm=status)
    with pytest.raises(CommandFailed):
        one.login(IQN, "10.0.0.1")


def test_a_session_is_recorded():
    one, timeline = initiator(sessions=ONE)
    host = LabHost(SimpleNamespace(timeline=timeline), SimpleNamespace(name="h1"), None, KIND)
    host._initiator = one
    session = host.session("before")
    (event,) = timeline.events("session", "h1")
    assert (event["moment"], event["current"]) == ("before", session.current)


def test_each_load_of_a_host_writes_other_content(tmp_path):
    """Else what an old load wrote would hide a lost write of a new one on the same disk."""
    one, timeline = initiator(sessions=ONE)
    runner = SimpleNamespace(host="h1", start=lambda *_, **__: None)
    unit = SimpleNamespace(number=1, path=tmp_path / "lun1")
    lab = SimpleNamespace(
        timeline=timeline, seed=1, folder=SimpleNamespace(logs=tmp_path),
        array=SimpleNamespace(targets=[SimpleNamespace(iqn=IQN, luns=[unit])]),
    )  # fmt: skip
    host = LabHost(lab, SimpleNamespace(name="h1"), SimpleNamespace(), KIND)
    lab.hosts = {"h1": host}
    host._initiator, host._node.runner = one, runner
    session = host.session("before")
    disks = [(session, SimpleNamespace(device=name, lun=1)) for name in ("sda", "sdb")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Writer, "start", lambda self: None)
        patch.setattr(Writer, "close", lambda self: None)
        patch.setattr(type(one), "writer", lambda self, session: ["writer"])
        patch.setattr(LabHost, "runner", runner)
        seeds = []
        for _ in range(2):
            host.start_writing()
            seeds += [host.writer.seed]
            seeds += [w.seed for w in host.loads_on(disks).writers]
    assert len(set(seeds)) == len(seeds) == 6, seeds
