"""Tells how long the processes here wait for a processor; run as a program, in the sandbox.

Each line of output is one JSON object: {"since", "t", "waited_ms"} for a time in which they waited,
or in which this program itself was woken late. A time in which nobody waited is not told. Times are
Unix seconds. It ends, and says {"end": true}, at the end of its input. Standard library only.
"""

from __future__ import annotations

import json
import select
import sys
import time
from pathlib import Path

TICK_S = 0.02
"""Each tick tells how late this program woke up."""
LOOK_S = 0.1
"""How often it asks how long the others have waited."""
COST = 50
"""The time between two looks is at least so many times what one takes (many hosts)."""
SCAN_S = 1.0
"""How often it looks for new processes, and for those that have begun to work."""
LEAST_MS = 2.0


def waited(pid: str) -> tuple[int, int]:
    """How long the process worked, and waited to work, in nanoseconds (0, 0 if it is gone).

    The first two numbers of /proc/PID/schedstat (Documentation/scheduler/sched-stats.rst).
    """
    try:
        worked, waits, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
        return int(worked), int(waits)
    except (OSError, ValueError):
        return 0, 0


class Waits:
    """The processes here, and how long each has waited."""

    def __init__(self) -> None:
        self._all: dict[str, tuple[int, int]] = {}
        self._working: set[str] = set()
        self._scanned = 0.0

    def since_last(self) -> float:
        """For how many ms all of them together have waited since the last call."""
        now, total = time.monotonic(), 0
        scan = now - self._scanned >= SCAN_S
        everybody = (path.name for path in Path("/proc").iterdir())
        pids = [name for name in everybody if name.isdigit()] if scan else list(self._working)
        seen = {pid: waited(pid) for pid in pids}
        for pid, at in seen.items():
            total += max(0, at[1] - self._all.get(pid, at)[1])
        if scan:
            # What has not worked since the last scan is looked at again at the next one only.
            self._working = {pid for pid, at in seen.items() if at != self._all.get(pid)}
            self._all, self._scanned = {}, now
        self._all.update(seen)
        return total / 1e6


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
            print(json.dumps({"since": looked, "t": now, "waited_ms": round(waited_ms, 1)}))
            sys.stdout.flush()
        looked, late_ms = now, 0.0
        if over:
            print(json.dumps({"end": True}), flush=True)
            return


if __name__ == "__main__":
    main()
