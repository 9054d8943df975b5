"""The folder of a suite: what was planned, what became of each cell, and how much is kept."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from lab.errors import BadInput
from lab.suite.cells import Absent, Cell

SUITE, RECORDS = "suite.json", "records.jsonl"
RAN = ("fail", "unknown")
"""Verdicts of tries that ran: one that passes after such a try is flaky."""
EXIT_CODES = {"fail": 1, "flaky": 1, "bad-input": 2, "missing": 3, "unknown": 4}
"""The exit code of each verdict but pass; the first of them that a suite has is the suite's."""
_HEAVY = ("luns", "pcap")
"""What a run folder needs most room for; the report of a pass does not need it."""
_DURATIONS = Path(__file__).with_name("durations.json")


@dataclass(frozen=True)
class Record:
    """One try of a cell. `verdict` may also be bad-input or missing; `why` is empty for a pass."""

    id: str
    kind: str
    verdict: str
    why: str
    started: float
    seconds: float
    folder: str
    seed: int
    stall_ms: dict[str, float] = field(default_factory=dict)
    slack_ms: float | None = None
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def longest_ms(self) -> float | None:
        """The longest stall of any host; None if no host had a load."""
        return max(self.stall_ms.values(), default=None)


@dataclass(frozen=True)
class Outcome:
    """A cell and its tries. `verdict`: the last try's, flaky, or "" if it has not run."""

    cell: Cell
    tries: tuple[Record, ...]

    @property
    def verdict(self) -> str:
        """What became of the cell."""
        if not self.tries:
            return ""
        last = self.tries[-1].verdict
        flaky = last == "pass" and any(one.verdict in RAN for one in self.tries)
        return "flaky" if flaky else last

    @property
    def why(self) -> str:
        """Why the last try that did not pass did not."""
        return next((one.why for one in reversed(self.tries) if one.why), "")


@dataclass(frozen=True)
class Suite:
    """A suite in its `folder`: the `cells` that it consists of, and those that do not exist."""

    folder: Path
    cells: tuple[Cell, ...]
    absent: tuple[Absent, ...] = ()
    seed: int = 1

    def write(self, **more: Any) -> None:
        """Write suite.json, at once or not at all."""
        content = {
            "version": 1,
            "seed": self.seed,
            "cells": [cell.as_json() for cell in self.cells],
            "absent": [{**a.cell.as_json(), "reason": a.reason} for a in self.absent],
            **more,
        }
        fresh = self.folder / f".{SUITE}"
        fresh.write_text(json.dumps(content, indent=1) + "\n")
        fresh.replace(self.folder / SUITE)

    def add(self, record: Record) -> None:
        """Append a record; those of several workers do not mix, and a kill loses none."""
        line = (json.dumps(asdict(record)) + "\n").encode()
        handle = os.open(self.folder / RECORDS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            os.write(handle, line)
        finally:
            os.close(handle)

    def outcomes(self) -> list[Outcome]:
        """What became of each cell, in their order."""
        tries: dict[str, list[Record]] = {cell.id: [] for cell in self.cells}
        path = self.folder / RECORDS
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                record = Record(**json.loads(line))
            except (ValueError, TypeError) as bad:
                raise BadInput(f"{path}: not a record of a suite: {bad}") from None
            tries.setdefault(record.id, []).append(record)
        return [Outcome(cell, tuple(tries[cell.id])) for cell in self.cells]

    def open(self) -> list[Cell]:
        """The cells that have not passed yet."""
        return [one.cell for one in self.outcomes() if one.verdict not in ("pass", "flaky")]


def read(folder: Path) -> Suite:
    """The suite of a folder. Raises BadInput if it is no folder of a suite."""
    path = folder / SUITE
    try:
        content = json.loads(path.read_text())
        absent = [Absent(_cell(one), one["reason"]) for one in content["absent"]]
        cells = [_cell(one) for one in content["cells"]]
        return Suite(folder, tuple(cells), tuple(absent), int(content["seed"]))
    except FileNotFoundError:
        raise BadInput(f"{folder}: no folder of a suite; it has no {SUITE}") from None
    except OSError as refused:
        raise BadInput(f"{path} cannot be read: {refused.strerror}") from None
    except (ValueError, TypeError, KeyError) as bad:
        raise BadInput(f"{path} is not that of a suite: {bad!r}") from None


def _cell(content: Mapping[str, Any]) -> Cell:
    return Cell(**{key: value for key, value in content.items() if key != "reason"})


def make(folder: Path, cells: Iterable[Cell], absent: Iterable[Absent], seed: int) -> Suite:
    """A new suite. Raises BadInput if its folder cannot be made or is not empty."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise BadInput(f"{folder}: not empty; name another folder, or --resume {folder}")
    except OSError as refused:
        raise BadInput(f"{folder}: the folder cannot be made: {refused.strerror}") from None
    suite = Suite(folder.absolute(), tuple(cells), tuple(absent), seed)
    suite.write()
    return suite


def exit_code(outcomes: Iterable[Outcome], allow_flaky: bool = False) -> int:
    """The exit code of a suite. A cell that has not run counts as unknown, and so does no cell."""
    found = {one.verdict for one in outcomes}
    good = {"pass", "flaky"} if allow_flaky else {"pass"}
    if found and found <= good:
        return 0
    known = (code for verdict, code in EXIT_CODES.items() if verdict in found - good)
    return next(known, EXIT_CODES["unknown"])


def durations() -> dict[str, dict[str, float]]:
    """What was recorded of each kind of cell: `seconds` it takes, and its `slack_ms`, if it has a
    budget: how much longer its stall could have been."""
    return dict(json.loads(_DURATIONS.read_text()))


def trim(run: Path, verdict: str) -> None:
    """Remove what the folder of a pass does not need."""
    if verdict == "pass":
        for name in _HEAVY:
            shutil.rmtree(run / name, ignore_errors=True)


def size_of(folder: Path) -> int:
    """Bytes on disk below `folder`; holes of sparse files do not count."""
    total = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            try:
                total += (Path(parent) / name).lstat().st_blocks * 512
            except FileNotFoundError:  # of a run that goes on
                continue
    return total


def bound(suite: Suite, most_bytes: int) -> list[str]:
    """Remove disks and captures of ended runs, the oldest first, until the suite has `most_bytes`
    or less. Returns the folders that were cut."""
    cut: list[str] = []
    left = size_of(suite.folder)
    tries = sorted((t for one in suite.outcomes() for t in one.tries), key=lambda t: t.started)
    for record in tries:
        if left <= most_bytes:
            break
        run = suite.folder / record.folder
        heavy = [run / name for name in _HEAVY if (run / name).exists()]
        if heavy:
            left -= sum(size_of(path) for path in heavy)
            for path in heavy:
                shutil.rmtree(path, ignore_errors=True)
            cut.append(record.folder)
    return cut


@contextmanager
def turn_of(folder: Path, alone: bool) -> Iterator[None]:
    """Wait until the cell may run: `alone`, or beside others that are not alone.

    A file lock (flock(2)) of the suite's folder. The kernel frees it when its process dies.
    """
    with (folder / ".turn").open("w") as order, (folder / ".running").open("w") as running:
        # Whoever wants to be alone holds up those that come after; otherwise it might never be.
        fcntl.flock(order, fcntl.LOCK_EX)
        fcntl.flock(running, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(order, fcntl.LOCK_UN)
        yield


def learn(suite: Suite) -> dict[str, dict[str, float]]:
    """What durations.json holds of the cells of `suite` that passed: the medians of their turns."""
    found: dict[str, dict[str, float]] = {}
    for kind in dict.fromkeys(one.cell.kind for one in suite.outcomes()):
        good = [
            o.tries[-1] for o in suite.outcomes() if o.cell.kind == kind and o.verdict == "pass"
        ]
        if good:
            found[kind] = {"seconds": round(median(one.seconds for one in good), 1)}
            left = [one.slack_ms for one in good if one.slack_ms is not None]
            found[kind] |= {"slack_ms": round(median(left))} if left else {}
    return found
