"""A watchdog: it restarts a process that died, until the array is stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from lab.errors import LabError

LOOK_S = 0.02
_TRIES = 200


class Watched(Protocol):
    """A started process that can be restarted."""

    @property
    def running(self) -> bool:
        """Whether its process is there."""

    def kill(self) -> None:
        """SIGKILL it, and clean up after it."""

    def restart(self) -> None:
        """Restart it with all its orders; LabError if that is impossible now."""


class Watchdog:
    """Watches `watched` from start() to let_go(); `say` gets "died", "restarted", "not-restarted".

    A restart that fails is tried again, because the address it needs may be moving to another port.
    After the last try `say` gets "given-up".
    """

    def __init__(self, watched: Watched, say: Callable[[dict[str, str]], None]) -> None:
        self._watched, self._say = watched, say
        self._stopping = threading.Event()
        self._lock = threading.Lock()  # only one thread kills or starts it
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
            except (LabError, OSError) as refused:
                if not failures:
                    self._say({"what": "not-restarted", "why": str(refused)})
                failures += 1
                if failures == _TRIES:
                    self._say({"what": "given-up", "why": str(refused)})
            else:
                failures = 0
                self._say({"what": "restarted"})

    def kill(self) -> None:
        """SIGKILL it; it is restarted after its clean-up."""
        with self._lock:  # _watch() may see its end before kill() returns
            self._watched.kill()

    def let_go(self) -> None:
        """Stop watching: after this returns, nothing is restarted."""
        with self._lock:
            self._stopping.set()
