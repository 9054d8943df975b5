"""The controller's supervisor: a controller that dies is started again."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.array.site import Site
from lab.commands import Process
from lab.controller.addresses import DIE_AT
from lab.errors import LabError
from lab.timeline import Event, Timeline
from lab.waiting import wait_for

SETTLE_SECONDS = 15.0
_RESTARTS = 20


class Supervisor:
    """Runs the controller, which is `module`, with the configuration `config` where the array is.

    Its events go on the timeline, and each also to `on_event`, from another thread.
    """

    def __init__(
        self,
        site: Site,
        config: dict[str, Any],
        timeline: Timeline,
        logs: Path,
        on_event: Callable[[Event], None],
        *,
        module: str = "lab.controller",
    ) -> None:
        self._site, self._config, self._timeline = site, config, timeline
        self._module = module
        self._log, self._on_event = logs / "controller.log", on_event
        self._process: Process | None = None
        self._told: list[Event] = []
        self._stopping = threading.Event()
        self._restarts = 0
        self._next_dies_at = 0
        self._starting = threading.Lock()

    def start(self) -> None:
        """Returns when the array is as it is configured; WaitTimeout if it does not get there."""
        self._path = self._site.put("controller.json", json.dumps(self._config, indent=1))
        self._start()
        wait_for(
            f"the controller of {self._config['array']} to settle",
            lambda: list(self._told)[-5:],
            until=lambda told: any(e.get("what") == "settled" for e in told),
            seconds=SETTLE_SECONDS,
        )

    def _start(self) -> None:
        # It reads back from the kernel what its predecessor has done.
        env = {DIE_AT: str(self._next_dies_at)} if self._next_dies_at else {}
        self._next_dies_at = 0
        with self._starting:
            if self._stopping.is_set():
                return  # since it died
            self._process = self._site.start_module(
                self._module, str(self._path), log=self._log, on_line=self._hear, env=env
            )
        threading.Thread(target=self._supervise, args=(self._process,), daemon=True).start()

    def _supervise(self, controller: Process) -> None:
        while controller.poll() is None:
            if self._stopping.wait(0.05):
                return
        if self._stopping.is_set():
            return
        status, where = controller.poll(), self._config["array"]
        self._timeline.add(where, "controller", what="died", status=status)
        self._restarts += 1
        if self._restarts > _RESTARTS:
            return
        try:
            self._start()
        except LabError as refused:
            self._timeline.add(where, "controller", what="not-restarted", why=str(refused))

    def _hear(self, line: str) -> None:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            return  # half a line: it was killed while it wrote
        self._timeline.extend([event])
        self._told.append(event)
        if event.get("what") == "settled":
            self._restarts = 0  # it does its work: what died was not for ever dying
        self._on_event(event)

    def tell(self, **command: Any) -> None:
        """Give it an order, for example command="move-vip", port="p2"."""
        if self._process is None:
            raise LabError(f"the controller of {self._config['array']} does not run")
        self._process.send(json.dumps(command))

    def kill(self, *, next_dies_at: int = 0) -> None:
        """SIGKILL it; it is started again.

        `next_dies_at`: what is started then kills itself when it has given ip that many lines.
        """
        self._next_dies_at = next_dies_at
        with self._starting:  # it may be heard before it is known here
            process = self._process
        if process:
            process.kill()

    def let_go(self) -> None:
        """Do not start it again: the array loses its power."""
        self._stopping.set()

    def stop(self) -> None:
        """End it for good."""
        self.let_go()
        self.kill()
