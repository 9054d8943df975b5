"""Commands over SSH to a server that does not do its part: paramiko's own, in this process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import paramiko
import pytest

from lab.errors import LabError, WaitTimeout
from lab.guest import ssh
from lab.guest.ssh import SshRunner
from lab.waiting import wait_for


class Server(paramiko.ServerInterface):
    """Takes every command; `answers` False: says nothing to the wish to run one."""

    def __init__(self) -> None:
        self.answers = True
        self.channels: list[paramiko.Channel] = []
        self.over = threading.Event()

    def check_auth_none(self, username: str) -> int:
        return paramiko.AUTH_SUCCESSFUL

    def get_allowed_auths(self, username: str) -> str:
        return "none"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        if not self.answers:
            self.over.wait(20.0)
        self.channels.append(channel)
        return True


class Guest:
    """A runner, and the server that it speaks to."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.server = Server()
        self._there = paramiko.Transport(theirs, default_window_size=1 << 15)
        self._there.add_server_key(paramiko.ECDSAKey.generate())
        self._there.start_server(server=self.server, event=threading.Event())
        here = paramiko.Transport(ours)
        here.start_client(timeout=10.0)
        here.auth_none("root")
        self.runner = SshRunner("a1", here)

    def said(self, text: str) -> paramiko.Channel:
        """The channel of the last command, which has said `text`."""
        channel = wait_for("a command", lambda: self.server.channels, seconds=5.0)[-1]
        channel.sendall(text.encode())
        return channel

    def close(self) -> None:
        self.server.over.set()
        self.runner.close()
        self._there.close()


@pytest.fixture
def guest() -> Iterator[Guest]:
    it = Guest()
    yield it
    it.close()


def test_output_that_cannot_be_taken_is_read_on_and_told_at_the_end(guest, tmp_path):
    heard = []

    def take(line):
        heard.append(line)
        if line == "odd":
            raise ValueError(f"what is {line}?")

    process = guest.runner.start(["x"], log=tmp_path / "log", on_line=take)
    channel = guest.said("17\nodd\neven\n")
    wait_for("the next line", lambda: heard == ["odd", "even"], seconds=5.0)
    channel.send_exit_status(0)
    channel.close()
    with pytest.raises(LabError, match=r"a1: output of `x` was lost: ValueError: what is odd\?"):
        process.wait(5.0)
    assert process.wait(5.0) == 0  # it is told once


def test_a_kill_tells_it_too(guest, tmp_path):
    process = guest.runner.start(["x"], log=tmp_path / "log", on_line=lambda _: 1 / 0)
    channel = guest.said("17\nodd\n")
    channel.send_exit_status(0)
    channel.close()
    wait_for("the end", lambda: process.poll() is not None, seconds=5.0)
    with pytest.raises(LabError, match="output of `x` was lost: ZeroDivisionError"):
        process.kill()


def test_a_first_line_that_is_no_process_id_is_told(guest, tmp_path):
    process = guest.runner.start(["x"], log=tmp_path / "log")
    channel = guest.said("sh: not found\n")
    channel.send_exit_status(127)
    channel.close()
    with pytest.raises(LabError, match="output of `x` was lost: .*sh: not found"):
        process.wait(5.0)


def test_a_log_that_cannot_be_written(guest, tmp_path):
    with pytest.raises(LabError, match="a1: .*missing/log: No such file"):
        guest.runner.start(["x"], log=tmp_path / "missing" / "log")


def test_a_program_that_does_not_read_is_not_waited_for_for_ever(guest, tmp_path, monkeypatch):
    monkeypatch.setattr(ssh, "SEND_S", 0.2)
    process = guest.runner.start(["x"], log=tmp_path / "log")
    guest.said("17\n")
    with pytest.raises(WaitTimeout, match="a1: `x` to take its input"):
        process.send("y" * 100_000)


@pytest.mark.timeout(20)
def test_nothing_is_told_after_the_input_was_closed(guest, tmp_path):
    process = guest.runner.start(["x"], log=tmp_path / "log")
    process.close_input()
    with pytest.raises(LabError, match="a1: `x` has ended; cannot send 'two'"):
        process.send("two")


@pytest.mark.timeout(20)
def test_a_command_that_does_not_begin(guest, tmp_path, monkeypatch):
    monkeypatch.setattr(ssh, "BEGIN_S", 0.2)
    guest.server.answers = False
    with pytest.raises(WaitTimeout, match="a1 to begin `x`"):
        guest.runner.start(["x"], log=tmp_path / "log")


@pytest.mark.timeout(20)
def test_a_command_to_its_end_that_does_not_begin(guest):
    guest.server.answers = False
    began = time.monotonic()
    with pytest.raises(WaitTimeout, match="a1 to begin `x`"):
        guest.runner.run(["x"], seconds=0.2)
    assert time.monotonic() - began < 5.0


def test_a_command_to_its_end_that_does_not_read(guest):
    with pytest.raises(WaitTimeout, match="a1: `x` to take its input"):
        guest.runner.run(["x"], seconds=0.3, stdin="y" * 100_000)


@pytest.mark.timeout(20)
def test_a_process_that_cannot_be_killed_for_nobody_knows_its_number(guest, tmp_path, monkeypatch):
    monkeypatch.setattr(ssh, "BEGIN_S", 0.2)
    process = guest.runner.start(["x"], log=tmp_path / "log")
    with pytest.raises(WaitTimeout, match="a1: the process id of `x`"):
        process.kill()
