"""Load: a writer in a host. Every operation is on the timeline, and blocks are read back."""

from __future__ import annotations

import json
import time
from bisect import bisect_left
from pathlib import Path
from typing import Any

from lab.commands import Runner
from lab.errors import BadInput, LabError
from lab.evidence import Evidence
from lab.timeline import Timeline
from lab.waiting import wait_for

MOST_BLOCKS, DEEPEST = 256, 32
"""Operations of at most 1 MiB, and at most so many of them in flight."""


class Writer:
    """Direct writes of numbered and checksummed blocks of 4 KiB, each of which is read back.

    start() begins, stop() ends, verify() reads back what was not overwritten: what was, was read
    before. It overwrites `blocks` blocks of the disk from number `first` on, in an order that
    `seed` fixes. `size` is how many blocks one operation has, `depth` how many operations are in
    flight, `rate` how many writes a second there are at most (0: no limit). `program` is the
    command up to the disk argument (Initiator.writer). `durable`: acknowledge a write only when it
    outlasts a power cut of the disk. `name` is its `where` on the timeline (default: the host).
    Raises BadInput for a size, depth or rate that is out of bounds.
    """

    def __init__(
        self,
        runner: Runner,
        timeline: Timeline,
        logs: Path,
        *,
        program: list[str],
        blocks: int,
        seed: int,
        durable: bool = False,
        first: int = 0,
        name: str = "",
        size: int = 1,
        depth: int = 1,
        rate: float = 0.0,
    ) -> None:
        for what, given, most in (("size", size, MOST_BLOCKS), ("depth", depth, DEEPEST)):
            if not 1 <= given <= most:
                raise BadInput(f"a load's {what} is 1 to {most}, not {given}")
        if rate < 0:
            raise BadInput(f"a load's rate is 0 (no limit) or more writes a second, not {rate:g}")
        if blocks < size * (depth + 1):
            raise BadInput(
                f"a load of depth {depth} and size {size} needs at least {size * (depth + 1)} "
                f"blocks of the disk, not {blocks}"
            )
        self.seed, self.first, self.blocks, self.size = seed, first, blocks, size
        self.name = name or runner.host
        self._runner, self._timeline = runner, timeline
        self._log = logs / f"{self.name}-writer.log"
        self._program, self._arguments = program, [str(blocks), str(seed)]
        self._arguments += [f"first={first}"] if first else []
        self._arguments += ["dsync"] if durable else []
        self._arguments += [f"size={size}"] if size > 1 else []
        self._arguments += [f"depth={depth}"] if depth > 1 else []
        self._arguments += [f"rate={rate:g}"] if rate else []
        self._evidence = Evidence(timeline, self.name, "load")
        self._known: dict[int, int] = {}
        self._newest = 0
        self._reached: set[str] = set()
        self._begun: list[float] = []  # when each acknowledged write began

    def start(self, seconds: float = 15.0) -> None:
        """Start writing; returns after the first acknowledged write."""
        argv = [*self._program, *self._arguments]
        self._evidence.begin()
        self._process = self._runner.start(argv, log=self._log, on_line=self._take)
        self._await("the first write", lambda: self.acknowledged > 0, seconds)

    def stop(self, seconds: float = 60.0) -> None:
        """End the writing after the current operation, which may be long."""
        if "end" not in self._reached:
            self._process.send("stop")
            self._await("the end of the writing", lambda: "end" in self._reached, seconds)

    def verify(self, seconds: float = 60.0) -> None:
        """Read back all acknowledged blocks; the result is on the timeline (`verified`)."""
        self._reached.discard("verified")
        self._process.send("verify")
        self._await("the read-back", lambda: "verified" in self._reached, seconds)

    def resume(self, runner: Runner, program: list[str]) -> None:
        """Prepare to verify() the writes acknowledged before the host lost its power.

        `runner` and `program` are those of the host after its new boot.
        """
        self._runner = runner
        self._evidence.end()  # what came after its last report, verify() allows for
        argv = [*program, *self._arguments, "known"]
        self._process = runner.start(argv, log=self._log, on_line=self._take)
        told = {"acked": self._known, "newest": self._newest}
        self._timeline.add(self.name, "recalled", newest=self._newest)
        self._process.send(json.dumps(told))

    def close(self) -> None:
        """End the program."""
        self._process.close_input()
        self._process.wait(10.0)

    def kill(self) -> None:
        """Kill the program, whatever it waits for."""
        self._process.kill()

    @property
    def acknowledged(self) -> int:
        """How many acknowledged writes it has reported."""
        return len(self._begun)

    def acknowledge(self, more: int, seconds: float = 30.0) -> None:
        """Wait until `more` writes that began after this call are acknowledged.

        The writer reports ten times a second, so the next reports may hold writes from before this
        call. They would prove nothing about a fault that has just begun.
        """
        called = time.time()

        def enough() -> bool:
            return len(self._begun) - bisect_left(self._begun, called) >= more

        self._await(f"{more} more writes", enough, seconds)

    def acknowledged_blocks(self) -> list[int]:
        """The numbers of the acknowledged blocks, lowest first."""
        writes = self._timeline.events("io", self.name)
        good = [e["block"] for e in writes if e["op"] == "write" and e["status"] == "ok"]
        return sorted({block + at for block in good for at in range(self.size)})

    def _await(self, what: str, reached: Any, seconds: float) -> None:
        def look() -> str:
            if reached():
                return ""
            if self._process.poll() is not None:
                tail = self._log.read_text(errors="replace")[-600:] if self._log.exists() else ""
                raise LabError(f"{self.name}: the writer ended before {what}: {tail.strip()}")
            return f"{self.acknowledged} writes acknowledged"

        wait_for(
            f"{what} in {self.name}",
            look,
            until=lambda s: not s,
            seconds=seconds,
            every=0.01,
        )

    def _take(self, line: str) -> None:
        try:
            message = json.loads(line)
        except json.JSONDecodeError:
            return  # part of a line that a power cut broke off
        if "io" in message:
            size = {"blocks": self.size} if self.size > 1 else {}
            events = [
                {"t": end, "where": self.name, "kind": "io", "op": op, "seq": sequence,
                 "block": block, "start": start, "status": status, **size}
                for op, sequence, block, start, end, status in message["io"]
            ]  # fmt: skip
            self._timeline.extend(events)
            writes = [e for e in events if e["op"] == "write"]
            good = [e for e in writes if e["status"] == "ok"]
            self._known |= {e["block"]: e["seq"] for e in good}
            self._newest = max([self._newest, *(e["seq"] for e in writes)])
            self._begun += [e["start"] for e in good]
        elif "load" in message:
            phase = message["load"]
            self._timeline.add(self.name, "load", t=message["t"], phase=phase, name="writer")
            self._reached.add(phase)
            if phase == "end":
                self._evidence.end()  # its output is one stream: nothing before this is missing
        elif "verified" in message:
            self._timeline.add(self.name, "verified", **message["verified"])
            self._reached.add("verified")
