"""Runs one cell: the command `lab run` in a process of its own, and the record of how it ended."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.errors import BadInput, Missing
from lab.run.run import exit_code
from lab.suite.cells import Cell
from lab.suite.records import RAN, Record, Suite, bound, durations, trim, turn_of

LAB = Path(sys.executable).with_name("lab")
QUIET_MS = 600.0
"""A cell whose recorded slack is less runs alone. An estimate: it is not measured yet."""
LONGEST_S = 600.0
"""A cell that takes longer is ended, and its verdict is unknown."""
_GIVEN_MIB, _CORES_EACH = 700, 1.0
"""What a lab is given: an estimate."""


def jobs_for(cores: int, free_mib: int, pressure: float) -> int:
    """How many labs run side by side, by cores, free memory, and CPU pressure (avg10, percent)."""
    by_cores = max(1, int(cores / _CORES_EACH))
    if pressure > 50.0:  # others keep the cores busy already
        by_cores = max(1, by_cores // 2)
    return max(1, min(by_cores, free_mib // _GIVEN_MIB))


def jobs_here() -> int:
    """How many labs this machine can run side by side now."""
    found = re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())
    free = int(found[1]) >> 10 if found else _GIVEN_MIB
    return jobs_for(len(os.sched_getaffinity(0)), free, cpu_pressure())


def cpu_pressure() -> float:
    """The share of the last ten seconds in which something waited for a core, in percent."""
    try:
        text = Path("/proc/pressure/cpu").read_text()
    except OSError:  # a kernel without it
        return 0.0
    found = re.search(r"some avg10=([\d.]+)", text)
    return float(found[1]) if found else 0.0


def alone(kind: str, known: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether cells of this kind must run alone, by what was recorded of them."""
    slack = known.get(kind, {}).get("slack_ms")
    return slack is not None and slack < QUIET_MS


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def dies_with(parent: int, argv: Sequence[str | Path]) -> list[str]:
    """`argv` as a command that the kernel kills when its parent, the process `parent`, dies."""
    # The shell looks whether the parent died before the kernel was told to watch it.
    look = f'[ "$PPID" = {parent} ] && exec "$@"'
    return ["setpriv", "--pdeathsig", "KILL", "sh", "-c", look, "lab", *map(str, argv)]


def run(suite: Suite, cell: Cell, retry: int = 0, most_bytes: int = 1 << 62) -> list[Record]:
    """Run a cell, again up to `retry` times while it does not pass. Returns all its tries."""
    before = next(one.tries for one in suite.outcomes() if one.cell.id == cell.id)
    tries: list[Record] = []
    with turn_of(suite.folder, alone(cell.kind, durations())):
        while not tries or (len(tries) <= retry and tries[-1].verdict in RAN):
            record = _try(suite, cell, len(before) + len(tries) + 1)
            suite.add(record)
            tries.append(record)
            bound(suite, most_bytes)
    return tries


def _try(suite: Suite, cell: Cell, number: int) -> Record:
    name = cell.id if number == 1 else f"{cell.id}.try{number}"
    folder, seed = suite.folder / "cells" / name, suite.seed + cell.turn - 1
    if folder.exists():  # an earlier run of this cell was killed before it had a record
        folder.rename(folder.with_name(f"{name}.killed-{time.time():.0f}"))
    argv: list[str | Path] = [LAB, "run", cell.scenario, "--json", "--out", folder]
    argv += ["--target", cell.target, "--initiator", cell.initiator, "--release", cell.release]
    argv += ["--seed", str(seed)]
    argv += ["--topology", cell.topology] if cell.topology else []
    began = time.time()
    process = subprocess.Popen(
        dies_with(os.getpid(), argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, errors="replace",
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=LONGEST_S)
        ended = judged(process.returncode, out, err)
    except subprocess.TimeoutExpired:
        ended = {"verdict": "unknown", "why": f"it did not end in {LONGEST_S:.0f} s"}
    finally:
        _end(process)
    if folder.exists():
        trim(folder, ended["verdict"])
    return Record(
        id=cell.id, kind=cell.kind, started=round(began, 3), seconds=round(time.time() - began, 2),
        folder=f"cells/{name}", seed=seed, **ended,
    )  # fmt: skip


def _end(process: subprocess.Popen[str]) -> None:
    """End a lab that still runs: as Ctrl-C does, and by force if that takes long."""
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            continue


def judged(status: int, out: str, err: str) -> dict[str, Any]:
    """What a record holds of how `lab run` ended: verdict, why, stalls, slack, versions."""
    told = [line.removeprefix("lab: ") for line in err.splitlines() if line.startswith("lab: ")]
    why = told[-1] if told else f"the lab ended with status {status}; {err.strip()[-300:]}"
    by_status = {BadInput.exit_code: "bad-input", Missing.exit_code: "missing"}
    if status in by_status:
        return {"verdict": by_status[status], "why": why}
    try:
        (result,) = json.loads(out)
    except ValueError:
        return {"verdict": "unknown", "why": why}
    stalls = result.get("measures", {}).get("stall_ms") or {}
    verdict, said = result["verdict"], broken(result["checks"])
    if status != exit_code([verdict]):  # it printed its result, and then something went wrong
        verdict, said = "unknown", f"{why}\n{said}".strip()
    return {
        "verdict": verdict,
        "why": said,
        "stall_ms": stalls,
        "slack_ms": slack(result["checks"], stalls),
        "versions": {name: str(value) for name, value in result.get("versions", {}).items()},
    }


def broken(checks: Sequence[Mapping[str, Any]]) -> str:
    """Each promise that does not hold, with the second if it is known, and the evidence.

    Those that failed stand before those without evidence.
    """
    lines = []
    for verdict in ("fail", "unknown"):
        for check in checks:
            if check["verdict"] == verdict:
                at = f" at second {check['at']:.3f}" if check.get("at") is not None else ""
                lines.append(f"{check['name']} {verdict}{at}: {check['evidence']}")
    return "\n".join(lines)


def slack(checks: Sequence[Mapping[str, Any]], stalls: Mapping[str, float]) -> float | None:
    """How much longer the stall of a host could have been within its budget, in ms; the least of
    all hosts. None without a budget."""
    found = [re.fullmatch(r"stall_below\((\S+), ([\d.e+]+)\)", check["name"]) for check in checks]
    return min(
        (float(one[2]) - stalls[one[1]] for one in found if one and one[1] in stalls), default=None
    )
