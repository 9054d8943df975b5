"""Load: a writer in a host whose every operation is on the timeline, verified at the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lab.commands import Runner
from lab.errors import LabError
from lab.timeline import Timeline
from lab.waiting import wait_for


class Writer:
    """Direct writes of 4 KiB, one after the other, of numbered and checksummed blocks.

    Started with start(), ended with stop(); verify() reads every acknowledged block back. The
    first `blocks` blocks of the disk `device` ("sda") are overwritten, in an order that `seed`
    fixes. `durable`: a write is acknowledged only when it outlasts a power cut of the disk.
    """

    def __init__(
        self,
        runner: Runner,
        timeline: Timeline,
        logs: Path,
        *,
        device: str,
        blocks: int,
        seed: int,
        durable: bool = False,
    ) -> None:
        self._runner, self._timeline, self._log = (
            runner,
            timeline,
            logs / f"{runner.host}-writer.log",
        )
        self._argv = ["python3", "/run/lab/writer.py", f"/dev/{device}", str(blocks), str(seed)]
        self._argv += ["dsync"] if durable else []
        self._reached: set[str] = set()
        self.acknowledged = 0

    def start(self, seconds: float = 15.0) -> None:
        """Start writing; returns once the first write is acknowledged."""
        self._process = self._runner.start(self._argv, log=self._log, on_line=self._take)
        self._await("the first write", lambda: self.acknowledged > 0, seconds)

    def stop(self, seconds: float = 60.0) -> None:
        """End the writing, after the operation that is under way (it may be a long one)."""
        if "end" not in self._reached:
            self._process.send("stop")
            self._await("the end of the writing", lambda: "end" in self._reached, seconds)

    def verify(self, seconds: float = 60.0) -> None:
        """Read back what was acknowledged; what it finds is on the timeline (`verified`)."""
        self._reached.discard("verified")
        self._process.send("verify")
        self._await("the read-back", lambda: "verified" in self._reached, seconds)

    def close(self) -> None:
        """End the program."""
        self._process.close_input()
        self._process.wait(10.0)

    def acknowledge(self, more: int, seconds: float = 30.0) -> None:
        """Wait until `more` further writes are acknowledged."""
        goal = self.acknowledged + more
        self._await(f"{more} more writes", lambda: self.acknowledged >= goal, seconds)

    def acknowledged_blocks(self) -> list[int]:
        """The blocks that were written, lowest first."""
        writes = self._timeline.events("io", self._runner.host)
        return sorted({e["block"] for e in writes if e["op"] == "write" and e["status"] == "ok"})

    def _await(self, what: str, reached: Any, seconds: float) -> None:
        def look() -> str:
            if reached():
                return ""
            if self._process.poll() is not None:
                tail = self._log.read_text(errors="replace")[-600:] if self._log.exists() else ""
                raise LabError(
                    f"{self._runner.host}: the writer ended before {what}: {tail.strip()}"
                )
            return f"{self.acknowledged} writes acknowledged"

        wait_for(
            f"{what} in {self._runner.host}",
            look,
            until=lambda s: not s,
            seconds=seconds,
            every=0.01,
        )

    def _take(self, line: str) -> None:
        try:
            message = json.loads(line)
        except json.JSONDecodeError:
            return  # the rest of a line that a power cut tore
        host = self._runner.host
        if "io" in message:
            events = [
                {"t": end, "where": host, "kind": "io", "op": op, "seq": sequence, "block": block,
                 "start": start, "status": status}
                for op, sequence, block, start, end, status in message["io"]
            ]  # fmt: skip
            self._timeline.extend(events)
            self.acknowledged += sum(e["op"] == "write" and e["status"] == "ok" for e in events)
        elif "load" in message:
            self._timeline.add(host, "load", t=message["t"], phase=message["load"], name="writer")
            self._reached.add(message["load"])
        elif "verified" in message:
            self._timeline.add(host, "verified", **message["verified"])
            self._reached.add("verified")
