"""The writer that runs in guests, against a sparse file: what it says, and what it detects."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.guest.files import writer as writing

PROGRAM = Path(writing.__file__)
BLOCKS = 64
numbers = st.integers(0, 2**64 - 1)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file that takes direct I/O, which one in memory may not."""
    for folder in (tmp_path, Path("/var/tmp")):
        handle, name = tempfile.mkstemp(prefix="lab-writer-", dir=folder)
        os.close(handle)
        path = Path(name)
        os.truncate(path, BLOCKS * writing.BLOCK)
        try:
            os.close(os.open(path, os.O_RDWR | os.O_DIRECT))
        except OSError:
            path.unlink()
            continue
        yield path
        path.unlink()
        return
    pytest.skip("no file system here takes direct I/O")


class Guest:
    """The writer as a process, and what it said."""

    def __init__(self, disk: Path, *options: str, seed: int = 7, blocks: int = BLOCKS) -> None:
        self.said: list[dict] = []
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(disk), str(blocks), str(seed), *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def until(self, key: str, value: object = None) -> dict:
        for line in self.process.stdout:
            message = json.loads(line)
            self.said.append(message)
            if key in message and value in (None, message[key]):
                return message
        raise AssertionError(f"it ended before {key}; it said {self.said}")

    def tell(self, line: str) -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def operations(self, op: str) -> list[list]:
        return [entry for m in self.said for entry in m.get("io", ()) if entry[0] == op]

    def acknowledged(self) -> dict[int, int]:
        return {block: seq for _, seq, block, _, _, status in self.operations("write")
                if status == "ok"}  # fmt: skip

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stdin.close()


def put(disk: Path, block: int, data: bytes, offset: int = 0) -> None:
    with disk.open("r+b") as file:
        file.seek(block * writing.BLOCK + offset)
        file.write(data)


def test_the_protocol(disk):
    with Guest(disk) as guest:
        begin = guest.until("load", "begin")
        guest.until("io")
        guest.tell("stop")
        end = guest.until("load", "end")
        guest.tell("verify")
        found = guest.until("verified")["verified"]
        guest.process.stdin.close()
        assert guest.process.wait(10) == 0
    writes = guest.operations("write")
    assert [seq for _, seq, *_ in writes] == list(range(1, len(writes) + 1))
    assert begin["t"] <= writes[0][3] <= writes[0][4] <= writes[-1][4] <= end["t"]
    assert {status for *_, status in writes} == {"ok"}
    assert {block for _, _, block, *_ in writes} <= set(range(BLOCKS))
    last = guest.acknowledged()
    assert found == {"blocks": len(last), "lost": [], "torn": []}
    reads = guest.operations("read")
    assert {block for _, _, block, *_ in reads} == set(last)
    assert {block: seq for _, seq, block, *_ in reads} == last, "the last read found the last write"
    assert len(reads) == len(writes), "each write was read back once"
    data = disk.read_bytes()
    for block, sequence in last.items():
        at = block * writing.BLOCK
        assert data[at : at + writing.BLOCK] == writing.make(7, sequence, block)


def test_what_happens_behind_its_back_is_found(disk):
    with Guest(disk) as guest:
        guest.until("io")
        guest.tell("stop")
        guest.until("load", "end")
        last = guest.acknowledged()
        blank, junk, older, moved, torn, other, *_ = blocks = sorted(last)
        assert len(blocks) > 6
        put(disk, blank, bytes(writing.BLOCK))
        put(disk, junk, b"\xff" * writing.BLOCK)
        put(disk, older, writing.make(7, last[older] - 1, older))
        put(disk, moved, writing.make(7, last[moved], moved + 1))
        put(disk, torn, writing.make(7, last[torn] + 1, torn)[512:1024], 512)
        put(disk, other, writing.make(8, last[other], other))
        guest.tell("verify")
        found = guest.until("verified")["verified"]
        assert found["blocks"] == len(last)
        assert found["torn"] == [junk, torn]
        assert found["lost"] == [
            {"block": blank, "expected": last[blank], "found": "blank"},
            {"block": older, "expected": last[older], "found": last[older] - 1},
            {"block": moved, "expected": last[moved], "found": "misplaced"},
            {"block": other, "expected": last[other], "found": "another writer's"},
        ]


def test_a_command_while_it_writes_ends_the_writing_first(disk):
    with Guest(disk) as guest:
        guest.until("io")
        guest.tell("verify")
        found = guest.until("verified")["verified"]
        assert {"load"} <= {key for message in guest.said for key in message}
        assert found["blocks"] == len(guest.acknowledged())


def test_the_end_of_its_input_ends_it(disk):
    with Guest(disk) as guest:
        guest.until("io")
        guest.process.stdin.close()
        guest.until("load", "end")
        assert guest.process.wait(10) == 0


def test_killed_and_read_back_by_another(disk):
    """What was acknowledged is on the disk when the writer is killed in the middle."""
    with Guest(disk) as guest:
        guest.until("io")
        last = guest.acknowledged()
        guest.process.kill()
        guest.process.wait(10)
    data = disk.read_bytes()
    for block, sequence in last.items():
        found = writing.parse(data[block * writing.BLOCK :][: writing.BLOCK])
        assert found == (found[0], block)
        assert found[0] >= sequence


class Fails:
    """A disk that fails some writes, and either keeps what was written or not."""

    def __init__(self, failing: dict[int, bool]) -> None:
        self.failing, self.count, self.real = failing, 0, os.pwritev

    def __call__(self, fd: int, buffers: list, offset: int) -> int:
        self.count += 1
        kept = self.failing.get(self.count)
        if kept is not False:
            self.real(fd, buffers, offset)
        if kept is not None:
            raise OSError(5, "Input/output error")
        return writing.BLOCK


@pytest.fixture
def here(monkeypatch, disk):
    """A writer in this process that stops after `writes`, and what it said."""

    def run(failing: dict[int, bool], writes: int, blocks: int = 1):
        said: list[dict] = []
        monkeypatch.setattr(writing, "say", said.append)
        monkeypatch.setattr(writing, "REPORT_SECONDS", -1.0)
        failer = Fails(failing)
        monkeypatch.setattr(writing.os, "pwritev", failer)
        ready = lambda *_: ([0] if failer.count >= writes else [], [], [])  # noqa: E731
        monkeypatch.setattr(writing.select, "select", ready)
        writer = writing.Writer(str(disk), blocks, 7)
        writer.write_until_told()
        return writer, said

    return run


@pytest.mark.parametrize("kept", [True, False])
def test_a_failed_write_may_be_there_or_not(here, kept):
    writer, said = here({3: kept}, writes=3)
    assert [m["io"][-1][5] for m in said if "io" in m] == ["ok", "ok", "EIO"]
    assert writer.acked == {0: 2}
    assert writer.unsure == {0: [3]}
    writer.verify()
    assert said[-1]["verified"] == {"blocks": 1, "lost": [], "torn": []}


def test_a_failed_write_must_not_come_back_after_a_later_one(here, disk):
    writer, said = here({2: False}, writes=3)
    assert writer.acked == {0: 3}
    assert writer.unsure == {}
    put(disk, 0, writing.make(7, 2, 0))
    writer.verify()
    assert said[-1]["verified"]["lost"] == [{"block": 0, "expected": 3, "found": 2}]


def test_what_an_earlier_run_wrote_is_found_by_the_next(here, disk):
    _writer, said = here({}, writes=3)
    again = writing.Writer(str(disk), 1, 7)
    again.recall({"0": 2}, newest=2)
    again.verify()  # 3 came later than what was told of
    assert said[-1]["verified"] == {"blocks": 1, "lost": [], "torn": []}
    for found in (1, 2):
        put(disk, 0, writing.make(7, found, 0))
        again.recall({"0": 2}, newest=3)
        again.verify()
        lost = [] if found == 2 else [{"block": 0, "expected": 2, "found": 1}]
        assert said[-1]["verified"]["lost"] == lost
    put(disk, 0, writing.make(8, 4, 0))
    again.verify()
    assert said[-1]["verified"]["lost"][0]["found"] == "another writer's"


def test_what_a_run_that_was_cut_off_had_in_flight_is_not_lost(here, disk):
    """Of several in flight, one with a lower number may end after the last report. And a write that
    failed may be there."""
    _writer, said = here({}, writes=3)
    again = writing.Writer(str(disk), 1, 7)
    again.recall({"0": 2}, newest=20)  # number 20 was of another place
    again.verify()
    assert said[-1]["verified"] == {"blocks": 1, "lost": [], "torn": []}


def test_each_host_has_blocks_of_its_own(monkeypatch, disk):
    said: list[dict] = []
    monkeypatch.setattr(writing, "say", said.append)
    monkeypatch.setattr(writing.select, "select", lambda *_: ([0], [], []))
    monkeypatch.setattr(writing, "REPORT_SECONDS", -1.0)
    writer = writing.Writer(str(disk), 1, 7, first=3)
    writer.write_until_told()
    assert writer.acked == {3: 1}
    assert writing.parse(disk.read_bytes()[3 * writing.BLOCK :][: writing.BLOCK]) == (1, 3)


def test_a_block_that_was_never_acknowledged_is_not_judged(here):
    writer, said = here({1: False}, writes=1)
    writer.verify()
    assert said[-1]["verified"] == {"blocks": 0, "lost": [], "torn": []}


def test_a_block_that_cannot_be_read_is_lost(here, monkeypatch):
    writer, said = here({}, writes=2)

    def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(writing.os, "preadv", broken)
    writer.verify()
    assert said[-1]["verified"]["lost"] == [{"block": 0, "expected": 2, "found": "EIO"}]
    monkeypatch.setattr(writing.os, "preadv", lambda *_: 512)
    writer.verify()
    assert said[-1]["verified"]["lost"] == [{"block": 0, "expected": 2, "found": "short"}]


@given(numbers, numbers, numbers)
def test_what_is_made_is_parsed(seed, sequence, block):
    data = writing.make(seed, sequence, block)
    assert len(data) == writing.BLOCK
    assert writing.parse(data) == (sequence, block)


@given(numbers, numbers, numbers, st.integers(0, writing.BLOCK - 1), st.integers(1, 255))
def test_one_changed_byte_is_torn(seed, sequence, block, at, change):
    data = bytearray(writing.make(seed, sequence, block))
    data[at] ^= change
    assert writing.parse(bytes(data)) == "torn"


@given(st.tuples(numbers, numbers, numbers), st.tuples(numbers, numbers, numbers),
       st.integers(1, 7))  # fmt: skip
def test_sectors_of_two_writes_are_torn(one, two, sectors):
    first, second = writing.make(*one), writing.make(*two)
    mixed = first[: sectors * 512] + second[sectors * 512 :]
    whole = mixed in (first, second)
    assert whole == (one == two)
    assert writing.parse(mixed) == ((one[1], one[2]) if whole else "torn")


def test_a_blank_block():
    assert writing.parse(bytes(writing.BLOCK)) == "blank"


def test_it_needs_the_standard_library_only():
    """It runs in a guest with Debian's Python and nothing else."""
    probe = "import sys; sys.path = [p for p in sys.path if 'packages' not in p]; import runpy; "
    probe += f"runpy.run_path({str(PROGRAM)!r})"
    subprocess.run([sys.executable, "-I", "-S", "-c", probe], check=True)
    assert importlib.util.find_spec("lab.guest.files.writer")
