"""The writer on an NBD export: a real qemu-nbd, of a file."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lab.guest.files.writer import BLOCK, make, parse
from lab.host.nbd import NbdDisk
from lab.waiting import wait_for

BLOCKS = 8


@pytest.fixture
def disk(tmp_path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(bytes(BLOCKS * BLOCK))
    return path


@pytest.fixture
def serve(tmp_path):
    """Starts qemu-nbd with arguments; returns the path of its socket."""
    started: list[subprocess.Popen] = []
    path = tmp_path / "socket"

    def start(*arguments: str) -> str:
        started.append(subprocess.Popen(["qemu-nbd", "--socket", str(path), *arguments]))
        wait_for("qemu-nbd", path.exists, seconds=10)
        return str(path)

    yield start
    for one in started:
        one.kill()
        one.wait()


def run_writer(where: str, *options: str):
    """The program, from its first write to its read-back: what it said."""
    argv = [sys.executable, "-m", "lab.host.nbd", where, str(BLOCKS), "7", *options]
    told = subprocess.run(
        argv, input="stop\nverify\n", text=True, capture_output=True, timeout=30, check=True
    )
    return [json.loads(line) for line in told.stdout.splitlines()]


def operations(said):
    return [tuple(one) for message in said for one in message.get("io", ())]


@pytest.mark.parametrize("options", [(), ("dsync",), ("first=0",)])
def test_it_writes_and_reads_back(serve, disk, options):
    said = run_writer(serve("--format", "raw", "--cache", "none", str(disk)), *options)
    done = operations(said)
    last = {block: number for op, number, block, *_ in done if op == "write"}
    assert {one[5] for one in done} == {"ok"}
    assert said[-1]["verified"] == {"blocks": len(last), "lost": [], "torn": []}
    data = disk.read_bytes()
    for block, number in last.items():
        there = data[block * BLOCK : (block + 1) * BLOCK]
        assert parse(there) == (number, block)
        assert there == make(7, number, block)


def test_times_lie_within_the_run_and_follow_each_other(serve, disk):
    done = operations(run_writer(serve("--format", "raw", str(disk))))
    times = [time for one in done for time in one[3:5]]
    assert times == sorted(times)


def test_errors_of_the_disk_are_the_writers(serve, disk, tmp_path):
    rules = tmp_path / "rules"
    rules.write_text('[inject-error]\nevent = "none"\niotype = "write"\nerrno = "5"\n')
    path = serve(
        "--image-opts",
        f"driver=raw,file.driver=blkdebug,file.config={rules},file.image.driver=file,"
        f"file.image.filename={disk}",
    )
    done = operations(run_writer(path))
    assert {one[5] for one in done if one[0] == "write"} == {"EIO"}


def test_past_the_end(serve, disk):
    one = NbdDisk(serve("--format", "raw", str(disk)))
    assert one.size == BLOCKS * BLOCK
    with pytest.raises(OSError, match="No space|Invalid"):
        one.write(bytes(BLOCK), BLOCKS * BLOCK)
    one.write(b"x" * BLOCK, 0)  # and it goes on
    assert one.read(BLOCK, 0) == b"x" * BLOCK


def test_one_after_the_other(serve, disk):
    path = serve("--format", "raw", "--persistent", str(disk))
    for text in (b"x" * BLOCK, b"y" * BLOCK):
        one = NbdDisk(path)
        one.write(text, 0)
        one.close()
    assert disk.read_bytes()[:BLOCK] == text


def test_a_server_that_ends(disk, tmp_path):
    path = tmp_path / "socket"
    server = subprocess.Popen(["qemu-nbd", "--socket", str(path), "--format", "raw", str(disk)])
    wait_for("qemu-nbd", path.exists, seconds=10)
    one = NbdDisk(str(path))
    server.kill()
    server.wait()
    with pytest.raises(OSError, match="hung up|Broken pipe|reset"):
        one.read(BLOCK, 0)


@pytest.fixture
def pretend(tmp_path):
    """Listens and says to the first who comes what it is told to; returns the socket's path."""
    path = str(tmp_path / "pretended")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def answer(greeting: bytes) -> str:
        def serve_one() -> None:
            peer, _ = listener.accept()
            with peer, contextlib.suppress(OSError):
                peer.sendall(greeting)
                peer.shutdown(socket.SHUT_WR)
                peer.recv(64)

        threading.Thread(target=serve_one, daemon=True).start()
        return path

    yield answer
    listener.close()


def test_stable_writes_where_there_are_none(pretend):
    greeting = struct.pack(">8s8sH", b"NBDMAGIC", b"IHAVEOPT", 3) + struct.pack(">QH", 4096, 1)
    with pytest.raises(OSError, match="FUA"):
        NbdDisk(pretend(greeting), stable=True)


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.2 Debian-2", b"NBDMAGIC" + bytes(24)])
def test_something_else_at_the_socket(pretend, greeting):
    with pytest.raises(OSError, match="no NBD server"):
        NbdDisk(pretend(greeting))


def test_a_server_that_says_nothing(tmp_path):
    path = str(tmp_path / "silent")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with pytest.raises(TimeoutError):
            NbdDisk(path, seconds=0.1)


def test_a_server_that_hangs_up_at_once(pretend):
    with pytest.raises(OSError, match="hung up"):
        NbdDisk(pretend(b"NBDM"))
