"""How the sandbox ends when a person presses Ctrl-C, once or twice, at a terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.waiting import wait_for

PROGRAM = """
import pathlib, sys, threading
from lab import sandbox
folder = pathlib.Path(sys.argv[1])
def work():
    (folder / "ready").touch()
    try:
        threading.Event().wait(20)
    finally:
        with (folder / "cleaned").open("a") as out:
            out.write("x")
        for _ in "12":  # a clean-up that does not let itself be interrupted
            try:
                threading.Event().wait(float(sys.argv[2]))
            except KeyboardInterrupt:
                continue
        (folder / "done").touch()
    return 0
sys.exit(sandbox.run(work))
"""


@pytest.fixture
def start(tmp_path):
    started = []

    def run(cleaning: float) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path), str(cleaning)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        wait_for(
            "the work to begin or be refused",
            lambda: (tmp_path / "ready").exists() or process.poll() is not None,
            seconds=20,
        )
        if process.poll() == 3:
            pytest.skip("this machine allows no namespaces")
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_ctrl_c_reaches_the_worker_once(start, tmp_path):
    """The terminal sends it to its whole process group, not to the outermost process alone."""
    process = start(0.5)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 130, output
    assert output == ""  # its caller says so, once
    assert (tmp_path / "cleaned").read_text() == "x"
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_so_do_other_signals(start, tmp_path, number):
    process = start(0.0)
    process.send_signal(number)
    output, _ = process.communicate(timeout=10)
    assert (process.returncode, output) == (130, "")
    assert Path(tmp_path / "done").exists()


def test_a_second_one_ends_the_clean_up(start, tmp_path):
    process = start(20.0)
    os.killpg(process.pid, signal.SIGINT)
    wait_for("the clean-up", (tmp_path / "cleaned").exists, seconds=5, every=0.01)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=10)
    assert time.monotonic() - began < 5
    assert (process.returncode, output) == (130, "")
    assert not (tmp_path / "done").exists()
