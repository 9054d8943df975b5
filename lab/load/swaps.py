"""A load on a region that several hosts share: each swaps slots by COMPARE AND WRITE."""

from __future__ import annotations

import json
import time
from pathlib import Path

from lab.commands import Runner
from lab.errors import LabError
from lab.evidence import Evidence
from lab.timeline import Timeline
from lab.waiting import wait_for

FIRST, SLOTS = (48 << 20) // 512, 8
"""Where on the disk the slots are, in logical blocks: behind the blocks of all other loads."""


class Swaps:
    """The swaps of one host on the disk `device` ("sda"), from start() to stop().

    `number` is this host's, from 1 on; all hosts that share the slots have the same `seed`. Each
    read and each swap becomes a `swap` event; lab.checks.swaps_agree judges those of all hosts.
    """

    def __init__(
        self, runner: Runner, timeline: Timeline, logs: Path, device: str, number: int, seed: int
    ) -> None:
        self._runner, self._timeline = runner, timeline
        self._log = logs / f"{runner.host}-slots.log"
        self._argv = ["python3", "/run/lab/slots.py", f"/dev/{device}"]
        self._argv += [str(n) for n in (FIRST, SLOTS, number, seed)]
        self._evidence = Evidence(timeline, runner.host, "swaps")
        self._begun: list[float] = []
        self._reached: set[str] = set()

    def start(self, seconds: float = 15.0) -> None:
        """Begin; returns after the first swap."""
        self._evidence.begin()
        self._process = self._runner.start(self._argv, log=self._log, on_line=self._take)
        self._await("the first swap", lambda: bool(self._begun), seconds)

    def go_on(self, more: int, seconds: float = 60.0) -> None:
        """Wait until `more` swaps that began after this call succeeded."""
        called = time.time()
        self._await(
            f"{more} more swaps", lambda: sum(t >= called for t in self._begun) >= more, seconds
        )

    def stop(self, seconds: float = 60.0) -> None:
        """End the swapping; nobody has read yet what is there then."""
        self._process.send("stop")
        self._await("the end of the swaps", lambda: "end" in self._reached, seconds)

    def read(self, seconds: float = 60.0) -> None:
        """Read all slots, after all hosts have stopped, and end the program."""
        self._process.send("read")
        self._await("the last read", lambda: "slots" in self._reached, seconds)
        self._evidence.end()
        self._process.close_input()
        self._process.wait(10.0)

    def _await(self, what: str, reached: object, seconds: float) -> None:
        assert callable(reached)

        def look() -> str:
            if reached():
                return ""
            if self._process.poll() is not None:
                tail = self._log.read_text(errors="replace")[-600:] if self._log.exists() else ""
                raise LabError(f"{self._runner.host}: the swaps ended before {what}: {tail}")
            return f"{len(self._begun)} swaps"

        where = self._runner.host
        wait_for(f"{what} in {where}", look, until=lambda s: not s, seconds=seconds, every=0.01)

    def _take(self, line: str) -> None:
        message = json.loads(line)
        if "swaps" in message:
            where = self._runner.host
            self._timeline.extend(
                {"t": end, "where": where, "kind": "swap", "op": op, "slot": slot, "found": found,
                 "value": value, "start": start, "status": status}
                for op, slot, found, value, start, end, status in message["swaps"]
            )  # fmt: skip
            self._begun += [s[4] for s in message["swaps"] if s[0] == "swap" and s[6] == "ok"]
        elif "slots" in message:
            self._reached.add("slots")
        else:
            self._reached.add(message["swapping"])
