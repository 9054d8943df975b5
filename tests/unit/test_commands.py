"""Commands on this machine: limits, failures that explain themselves, nothing left running."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from lab.commands import LocalRunner, require
from lab.errors import CommandFailed, LabError, Missing
from lab.waiting import wait_for

HERE = LocalRunner("here")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def number_in(path: Path) -> int:
    seen = wait_for(
        f"a number in {path.name}",
        lambda: path.read_text() if path.exists() else "",
        until=lambda text: text.endswith("\n"),
        seconds=5,
        every=0.005,
    )
    return int(seen)


def test_output_is_standard_output_alone():
    done = HERE.run(["sh", "-c", "echo out; echo err >&2"])
    assert (done.status, done.output) == (0, "out\n")


def test_standard_input_is_what_is_given_or_empty():
    assert HERE.run(["cat"], stdin="given\n").output == "given\n"
    assert HERE.run(["cat"], seconds=5).output == ""


def test_a_failure_says_where_what_and_why():
    with pytest.raises(CommandFailed) as error:
        HERE.run(["sh", "-c", "echo out; echo why >&2; exit 3"])
    assert error.value.status == 3
    for part in ("here: `sh -c", "ended with status 3", "out\nwhy"):
        assert part in str(error.value)


def test_a_failure_that_is_expected():
    assert HERE.run(["sh", "-c", "echo no; exit 3"], check=False).status == 3


def test_output_that_is_no_text():
    assert "�" in HERE.run(["printf", r"\377"]).output


def test_the_time_limit_shows_what_was_seen_and_ends_helpers_too(tmp_path):
    began = time.monotonic()
    script = f"echo begun; sleep 60 & echo $! > {tmp_path}/pid; wait"
    with pytest.raises(CommandFailed) as error:
        HERE.run(["sh", "-c", script], seconds=0.3, check=False)
    assert time.monotonic() - began < 5
    assert error.value.status is None
    assert "did not end in time: begun" in str(error.value)
    helper = number_in(tmp_path / "pid")
    wait_for("the helper to end", lambda: not alive(helper), seconds=2)


def test_a_program_that_is_not_there(tmp_path):
    missing = "here: nothing-like-it is not on PATH"
    with pytest.raises(Missing, match=missing):
        HERE.start(["nothing-like-it"], log=tmp_path / "log")
    with pytest.raises(Missing, match=missing):
        HERE.run(["nothing-like-it", "x"])


def test_a_log_that_cannot_be_written(tmp_path):
    with pytest.raises(LabError, match="here: .*/missing/log: No such file") as error:
        HERE.start(["true"], log=tmp_path / "missing" / "log")
    assert error.value.exit_code == 4


def test_what_cannot_be_run(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(LabError, match="data: Permission denied"):
        HERE.run([str(tmp_path / "data")])


def test_require():
    assert require("sh", "dash").endswith("/sh")
    with pytest.raises(Missing, match="sudo apt-get install its-package"):
        require("nothing-like-it", "its-package")


def test_on_line_gets_each_line_and_the_log_the_errors(tmp_path):
    lines: list[str] = []
    process = HERE.start(
        ["sh", "-c", r"echo one; echo oops >&2; printf '\377\ntwo'"],
        log=tmp_path / "log",
        on_line=lines.append,
    )
    assert process.wait(5) == 0
    assert lines == ["one", "�", "two"]
    assert (tmp_path / "log").read_text() == "oops\n"


def test_without_on_line_all_goes_to_the_log_and_is_appended(tmp_path):
    (tmp_path / "log").write_text("before\n")
    process = HERE.start(["sh", "-c", "echo one; echo two >&2"], log=tmp_path / "log")
    assert process.wait(5) == 0
    assert (tmp_path / "log").read_text() == "before\none\ntwo\n"


def test_what_breaks_on_a_line_is_told_and_the_process_does_not_hang(tmp_path):
    def broken(line: str) -> None:
        raise ValueError(f"what is {line}?")

    process = HERE.start(
        ["sh", "-c", "echo odd; head -c 1000000 /dev/zero"], log=tmp_path / "log", on_line=broken
    )
    with pytest.raises(LabError, match=r"here: lost output of `sh .*ValueError: what is odd\?"):
        process.wait(5)
    assert process.poll() == 0
    assert process.wait(5) == 0  # it is told once


def test_standard_input_line_by_line(tmp_path):
    lines: list[str] = []
    process = HERE.start(["cat"], log=tmp_path / "log", on_line=lines.append)
    process.send("one")
    wait_for("the echo", lambda: lines == ["one"], seconds=5, every=0.005)
    assert process.poll() is None
    process.close_input()
    process.close_input()
    assert process.wait(5) == 0
    with pytest.raises(LabError, match="`cat` has ended; cannot send 'two'"):
        process.send("two")


def test_a_process_that_ended_is_told_nothing(tmp_path):
    process = HERE.start(["true"], log=tmp_path / "log")
    process.wait(5)
    with pytest.raises(LabError, match="`true` has ended"):
        process.send("anything")
    process.kill()


def test_the_environment_is_added_to(tmp_path):
    process = HERE.start(
        ["sh", "-c", 'test "$MORE" = yes && test -n "$PATH"'],
        log=tmp_path / "log", env={"MORE": "yes"},
    )  # fmt: skip
    assert process.wait(5) == 0


def test_waiting_has_a_limit(tmp_path):
    process = HERE.start(["sleep", "60"], log=tmp_path / "log")
    with pytest.raises(CommandFailed, match="did not end in time"):
        process.wait(0.05)
    assert process.poll() is None
    process.kill()
    assert process.poll() == -9


@pytest.mark.parametrize("leader_first", [False, True])
def test_kill_ends_the_helpers_too(tmp_path, leader_first):
    """A helper that ignores what can be ignored, left alone by its leader or not."""
    helper = f"(trap '' TERM HUP; echo $(exec sh -c 'echo $PPID') > {tmp_path}/pid; sleep 60)"
    end = "exit 0" if leader_first else "wait"
    process = HERE.start(["sh", "-c", f"{helper} & {end}"], log=tmp_path / "log")
    pid = number_in(tmp_path / "pid")
    if leader_first:
        process.wait(5)
    assert alive(pid)
    began = time.monotonic()
    process.kill()
    assert not alive(pid)
    assert time.monotonic() - began < 1.0  # not until somebody reaps the helper
    process.kill()


def test_a_second_kill_spares_who_has_the_number_now(tmp_path, monkeypatch):
    process = HERE.start(["true"], log=tmp_path / "log")
    process.kill()
    monkeypatch.setattr(os, "killpg", lambda *_: pytest.fail("its number may be another's"))
    process.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="entering a namespace needs root")
def test_in_the_network_namespace_of_a_process(tmp_path):
    def network_of(runner: LocalRunner) -> str:
        return runner.run(["readlink", "/proc/self/ns/net"]).output

    apart = HERE.start(
        ["unshare", "-n", "sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 60"],
        log=tmp_path / "log",
    )
    try:
        pid = number_in(tmp_path / "pid")
        there = network_of(LocalRunner("there", pid))
        assert there == HERE.run(["readlink", f"/proc/{pid}/ns/net"]).output
        assert there != network_of(HERE)
    finally:
        apart.kill()
