"""What other users of the machine can see while a run knows secrets, and after it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from test_sandbox import started_by

from lab.scenarios import access
from lab.waiting import wait_for
from targets.base import ChapAccount

LAB = Path(sys.executable).with_name("lab")
SECRETS = [one.secret.encode() for one in vars(access).values() if isinstance(one, ChapAccount)]
SLOW = """#!/bin/sh
case "$*" in *mode=account*) sleep 0.3 ;; esac
exec {real} "$@"
"""


class Watcher(threading.Thread):
    """Reads, from outside of the sandbox, what the machine shows of our processes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.seen: set[str] = set()
        self.arguments: set[bytes] = set()

    def run(self) -> None:
        while not self.ended.wait(0.01):
            for pid in started_by(os.getpid()):
                for name in ("cmdline", "environ"):
                    path = Path(f"/proc/{pid}/{name}")
                    try:
                        mode, found = path.stat().st_mode, path.read_bytes()
                    except OSError:
                        continue  # it is gone
                    # An environment is for its user alone to read; others see arguments.
                    if name == "cmdline":
                        self.arguments.add(found)
                    elif mode & 0o077 == 0 and b"LIBISCSI_CHAP" in found:
                        continue
                    if any(secret in found for secret in SECRETS):
                        self.seen.add(f"{name}: {found[:200]!r}")


@pytest.fixture
def slow(tmp_path):
    """PATH with the real tgtadm, which takes its time for an account: long enough to be seen."""
    real = subprocess.run(
        ["which", "tgtadm"], capture_output=True, text=True, check=True,
        env={"PATH": os.environ["PATH"] + ":/usr/sbin"},
    ).stdout.strip()  # fmt: skip
    folder = tmp_path / "slow"
    folder.mkdir()
    (folder / "tgtadm").write_text(SLOW.format(real=real))
    (folder / "tgtadm").chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}:/usr/sbin"}


@pytest.mark.parametrize(
    "options",
    [
        ("redirect-with-mutual-chap", "--target", "tgt"),
        ("discovery-with-chap", "--target", "tgt"),
        ("redirect-with-chap", "--target", "lio"),
        ("redirect-with-chap", "--initiator", "libiscsi"),
    ],
)
def test_nobody_reads_a_secret_in_the_list_of_processes(run_scenario, slow, options):
    watcher = Watcher()
    watcher.start()
    try:
        result = run_scenario(*options, env=slow)
    finally:
        watcher.ended.set()
        watcher.join()
    assert result["verdict"] == "pass", result["checks"]
    if "lio" not in options:
        assert any(b"mode=account" in one for one in watcher.arguments)  # it was quick enough
    assert watcher.seen == set()


def open_to_others(folder: Path) -> list[Path]:
    return [one for one in [folder, *folder.rglob("*")] if one.lstat().st_mode & 0o077]


def test_a_run_folder_is_for_its_user_alone_from_the_beginning(tmp_path):
    """Whatever umask the user has, and while the lab is up; its work folder is looked at too."""
    out = tmp_path / "run"
    up = subprocess.Popen(
        [LAB, "up", "--out", out], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, umask=0,
    )  # fmt: skip
    try:
        ajar: set[Path] = set()

        def up_now() -> bool:
            if out.exists():
                ajar.update(open_to_others(out))
            return (out / "orders").exists()

        wait_for("the lab to be up", up_now, seconds=60.0, every=0.002)
        ajar.update(open_to_others(out))
        subprocess.run([LAB, "down", "--run", out], check=True, stdout=subprocess.DEVNULL)
        assert up.wait(60) == 0
    finally:
        up.kill()
        up.wait(20)
    assert (out / "report.html").exists()
    assert ajar | set(open_to_others(out)) == set()
