"""An observer of the machine itself: for how long the lab waited for a processor."""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from lab.commands import LocalRunner
from lab.errors import LabError
from lab.evidence import Evidence
from lab.timeline import Timeline
from lab.waiting import Deadline

_PROGRAM = Path(__file__).with_name("pressure.py")
_READY_S = 15.0
_FIRST = -10
"""Its nice value, if allowed: it must not wait itself, and works for a hundredth of the time."""


class MachineWatcher:
    """While entered, `machine` events tell when the lab's processes waited for a processor.

    It watches all processes of the sandbox from a process of its own (lab/observe/pressure.py; its
    complaints go to `log`). All waits of the lab last longer by what it tells (lab.waiting).
    """

    def __init__(self, timeline: Timeline, log: Path) -> None:
        self._timeline, self._log = timeline, log
        self._evidence = Evidence(timeline, "lab", "machine")
        self._ready, self._ended = threading.Event(), threading.Event()

    def __enter__(self) -> MachineWatcher:
        """Start watching."""
        argv = [sys.executable, "-I", "-S", "-u", str(_PROGRAM)]
        self._process = LocalRunner("lab").start(argv, log=self._log, on_line=self._hear)
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, _FIRST)
        if not self._ready.wait(_READY_S):
            self._process.kill()
            raise LabError(f"the observer of the machine did not begin within {_READY_S:g} s")
        self._evidence.begin()
        return self

    def _hear(self, line: str) -> None:
        told = json.loads(line)
        if "begin" in told:
            self._ready.set()
        elif "end" in told:
            self._ended.set()
        else:
            self._timeline.add("lab", "machine", **told)
            Deadline.stolen(min(told["waited_ms"] / 1000, told["t"] - told["since"]))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, once all is told."""
        try:
            self._process.close_input()
            self._process.wait(_READY_S)
        except LabError as lost:
            self._evidence.broke(str(lost))
        finally:
            self._process.kill()
        if self._ended.is_set():
            self._evidence.end()
        else:
            self._evidence.broke("it ended before it was asked to")
