"""Runs the array's controller, and restarts it with its orders when it dies."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from lab.array.site import Site
from lab.array.watchdog import Watchdog
from lab.commands import OnLine, Process
from lab.controller.addresses import DIE_AT
from lab.errors import LabError
from lab.evidence import Evidence
from lab.timeline import Event, Timeline
from lab.waiting import wait_for

SETTLE_SECONDS = 15.0
_STARTS = 20
_FILE = "controller.json"


def give_key(process: Process, key: bytes) -> None:
    """Give a started process the key of the run, on standard input: no file, argument or
    environment has it, and no error repeats it."""
    with suppress(LabError):  # it has ended, which whoever waits for it finds
        process.send(key.hex())


class _Controller:
    """The process, a `module` of this project; each line of its output goes to `on_line`.

    Each start calls `config`, which has the standing orders. A new controller reads everything else
    from the kernel.
    """

    def __init__(
        self,
        site: Site,
        module: str,
        config: Callable[[], dict[str, Any]],
        log: Path,
        on_line: OnLine,
        key: bytes,
    ) -> None:
        self._key = key
        self._site, self._module, self._config = site, module, config
        self._log, self._on_line = log, on_line
        self._process: Process | None = None
        self._written = ""
        self._known = threading.Lock()  # it may write before _process is set
        self.starts = 0
        self.dies_at = 0

    @property
    def running(self) -> bool:
        """See Watched."""
        return self._process is not None and self.status is None

    @property
    def status(self) -> int | None:
        """Its exit status, None while it runs."""
        return self._process.poll() if self._process else None

    def restart(self) -> None:
        """See Watched; LabError also if it keeps dying before it settles."""
        if self.starts >= _STARTS:
            raise LabError(f"started {self.starts} times, but it has not settled")
        text = json.dumps(self._config(), indent=1)
        if text != self._written:
            self._site.put(_FILE, text)
            self._written = text
        env = {DIE_AT: str(self.dies_at)} if self.dies_at else {}
        self.starts, self.dies_at = self.starts + 1, 0
        with self._known:
            self._process = self._site.start_module(
                self._module, str(self._site.folder / _FILE), log=self._log,
                on_line=self._on_line, env=env,
            )  # fmt: skip
            if self._key:
                give_key(self._process, self._key)

    def kill(self) -> None:
        """See Watched. If it has ended, only wait for its last output: its `ip` finishes its
        command, as it would on a real array."""
        if self.running and self._process:
            self._process.kill()
        elif self._process:
            self._process.wait(1.0)

    def send(self, line: str) -> None:
        """Write one line to its standard input; LabError if it does not run."""
        with self._known:
            process = self._process
        if process is None:
            raise LabError("it does not run")
        process.send(line)


class Supervisor:
    """The controller of the array `name`: `module`, configured by `config`, at `site`.

    Its events go to the timeline and, from another thread, to `on_event`. `key`: what it gets as
    the first line of its standard input.
    """

    def __init__(
        self,
        site: Site,
        name: str,
        config: Callable[[], dict[str, Any]],
        timeline: Timeline,
        logs: Path,
        on_event: Callable[[Event], None],
        *,
        module: str = "lab.controller",
        key: bytes = b"",
    ) -> None:
        self._name, self._timeline, self._on_event = name, timeline, on_event
        log = logs / "controller.log"
        self._controller = _Controller(site, module, config, log, self._hear, key)
        self._watchdog = Watchdog(self._controller, self._say)
        self._told: list[Event] = []
        self._evidence = Evidence(timeline, name, "controller")

    def start(self) -> None:
        """Start it; returns when the array is as configured. WaitTimeout after SETTLE_SECONDS."""
        self._evidence.begin()
        self._controller.restart()
        self._watchdog.start()
        wait_for(
            f"the controller of {self._name} to settle",
            lambda: list(self._told)[-5:],
            until=lambda told: any(e.get("what") == "settled" for e in told),
            seconds=SETTLE_SECONDS,
        )

    def _hear(self, line: str) -> None:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            return  # half a line: it was killed while it wrote
        self._timeline.extend([event])
        self._told.append(event)
        if event.get("what") == "settled":
            self._controller.starts = 0  # it works: count failed starts anew
        self._on_event(event)

    def _say(self, said: dict[str, str]) -> None:
        details: dict[str, Any] = dict(said)
        if said["what"] == "died":
            details["status"] = self._controller.status
        if said["what"] != "restarted":  # the new controller reports that
            self._timeline.add(self._name, "controller", **details)

    def tell(self, **command: Any) -> None:
        """Give it an order, for example command="move-vip", port="p2"."""
        self._controller.send(json.dumps(command))

    def kill(self, *, next_dies_at: int = 0) -> None:
        """SIGKILL it; the watchdog restarts it.

        `next_dies_at`: the new one kills itself after it has given `ip` that many lines.
        """
        self._controller.dies_at = next_dies_at
        self._watchdog.kill()

    def let_go(self) -> None:
        """Do not start it again: the array loses its power, and it can tell nothing more."""
        self._watchdog.let_go()
        self._evidence.end()

    def stop(self) -> None:
        """End it for good."""
        self._watchdog.let_go()
        try:
            self._controller.kill()
        except LabError as lost:
            self._evidence.broke(str(lost))
            raise
        self._evidence.end()
