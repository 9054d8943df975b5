"""Tells for how long other work kept the processes here from a processor; run as a program.

It runs in the sandbox, whose /proc has the lab's processes only. Each line of output is one JSON
object: {"since", "t", "waited_ms", "others"}, Unix seconds, for a time in which the lab's processes
waited for a processor. `others` is the part of the processors' work that was not the lab's, and
`waited_ms` is that part of what all of the lab's processes waited together, but no more than others
worked: the lab's also wait for each other, and that is not the machine's doing. If this program
itself was woken late, it tells that. A time in which nobody waited is not told. At the end of its
input it says {"end": true}. Standard library only.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections import deque
from collections.abc import Collection
from pathlib import Path

TICK_S = 0.02
"""Each tick tells how late this program woke up."""
LOOK_S = 0.1
"""How often it asks how long the others have waited."""
COST = 30
"""The time between two looks is at least so many times what one takes (many hosts)."""
LEAST_MS = 2.0
SMOOTHED = 10
"""The processors' work is counted in hundredths of a second, so it is taken over so many looks."""


def worked_s(pid: int) -> float:
    """For how many seconds all threads of the process worked; 0 if it is gone.

    Its clock is CPUCLOCK_SCHED (include/linux/posix-timers_types.h, make_process_cpuclock).
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def waited_s(pid: int) -> float:
    """For how many seconds its first thread waited to work; 0 if it is gone.

    The second number of /proc/PID/schedstat (Documentation/scheduler/sched-stats.rst).
    """
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def children_s(pid: int) -> float:
    """For how many seconds those of its children worked that have ended; 0 if it is gone.

    cutime and cstime of /proc/PID/stat (proc(5)): with their own children.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[13]) + int(fields[14])) / 100  # USER_HZ
    except (OSError, IndexError):
        return 0.0


def processors_worked_s() -> float:
    """For how many seconds the processors that are ours to use worked, or were taken by a
    hypervisor (proc(5), stat)."""
    return worked_of(Path("/proc/stat").read_text(), os.sched_getaffinity(0))


def worked_of(stat: str, processors: Collection[int]) -> float:
    """For how many seconds `processors` worked by the text of /proc/stat; all, if it names none."""
    wanted = {f"cpu{number}" for number in processors}
    lines = [line.split() for line in stat.splitlines() if line.startswith("cpu")]
    ours = [line for line in lines if line[0] in wanted] or lines[:1]
    worked = 0
    for _, user, nice, system, _, _, *rest in ours:
        worked += sum(map(int, (user, nice, system, *rest[:3])))
    return worked / 100  # USER_HZ


class Waits:
    """The processes here: how long each has worked and waited, beside what all processors did."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[float, float, float]] = {}
        self._looks: deque[tuple[float, float]] = deque(maxlen=SMOOTHED)
        self._worked = processors_worked_s()
        self.others = 0.0

    def since_last(self) -> float:
        """For how many ms other work kept the processes here waiting since the last call."""
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        now = {pid: (worked_s(pid), waited_s(pid), children_s(pid)) for pid in pids}
        ours = waited = ended = 0.0
        for pid, (worked, waits, children) in now.items():
            was = self._known.get(pid, (0.0, 0.0, 0.0))
            ours += max(0.0, worked - was[0])
            waited += max(0.0, waits - was[1])
            ended += max(0.0, children - was[2])
        # Most of a guest's processes begin and end between two looks. Only who waited for one tells
        # of it, together with what was known before of those that have ended.
        gone = [self._known[pid] for pid in self._known.keys() - now.keys()]
        ours += max(0.0, ended - sum(worked + children for worked, _, children in gone))
        first, self._known = not self._known, now
        all_worked = processors_worked_s()
        # What many wait together counts once: none was kept for longer than others worked.
        waited = min(waited, all_worked - self._worked)
        if not first:
            self._looks.append((all_worked - self._worked, ours))
        self._worked = all_worked
        whole = sum(one for one, _ in self._looks)
        theirs = whole - sum(own for _, own in self._looks)
        self.others = max(0.0, theirs / whole) if whole else 0.0
        return 0.0 if first else waited * self.others * 1000


def main() -> None:
    """Look until the end of input."""
    waits = Waits()
    waits.since_last()
    looked = time.time()
    late_ms, every = 0.0, LOOK_S
    print(json.dumps({"begin": True}), flush=True)
    while True:
        asked = time.monotonic()
        over = bool(select.select([0], [], [], TICK_S)[0])
        late_ms += max(0.0, (time.monotonic() - asked - TICK_S) * 1000)
        now = time.time()
        if now - looked < every and not over:
            continue
        waited_ms = max(waits.since_last(), late_ms)
        every = max(LOOK_S, COST * (time.time() - now))
        if waited_ms >= LEAST_MS:
            told = {"since": looked, "t": now, "waited_ms": round(waited_ms, 1)}
            print(json.dumps({**told, "others": round(waits.others, 2)}), flush=True)
        looked, late_ms = now, 0.0
        if over:
            print(json.dumps({"end": True}), flush=True)
            return


if __name__ == "__main__":
    main()
