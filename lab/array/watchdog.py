"""A watchdog: what has died is started again, until the array itself is ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from lab.errors import LabError

LOOK_S = 0.02
_TRIES = 200


class Watched(Protocol):
    """A process that has been started, and can be started again."""

    @property
    def running(self) -> bool:
        """Whether its process is there."""

    def kill(self) -> None:
        """SIGKILL it, and clear away what is left of it."""

    def restart(self) -> None:
        """Start it again with all that it was told; LabError if that cannot be done now."""


class Watchdog:
    """Watches `watched` from start() to let_go(); `say` is told "died", "restarted", and why not.

    Where it cannot be started now, as when an address that it needs is on its way to another port,
    it is tried again.
    """

    def __init__(self, watched: Watched, say: Callable[[dict[str, str]], None]) -> None:
        self._watched, self._say = watched, say
        self._stopping = threading.Event()
        self._lock = threading.Lock()  # one kills or starts it at a time
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Begin to watch it."""
        self._thread.start()

    def _watch(self) -> None:
        failures = 0
        while not self._stopping.wait(LOOK_S):
            if self._watched.running or failures >= _TRIES:
                continue
            if not failures:
                self._say({"what": "died"})
            try:
                with self._lock:
                    if self._stopping.is_set():
                        return  # since it died
                    self._watched.kill()
                    self._watched.restart()
            except LabError as refused:
                if not failures:
                    self._say({"what": "not-restarted", "why": str(refused)})
                failures += 1
            else:
                failures = 0
                self._say({"what": "restarted"})

    def kill(self) -> None:
        """SIGKILL it, to be started again when nothing is left of it."""
        with self._lock:  # its end can be seen before kill() has done
            self._watched.kill()

    def let_go(self) -> None:
        """Do not start it again; when this returns nothing is being started any more."""
        with self._lock:
            self._stopping.set()
