"""Keeps the virtual port answering: what answers there is started again when it has died."""

from __future__ import annotations

import threading
from collections.abc import Callable

from lab.errors import LabError
from targets.front.base import Front

LOOK_S = 0.02
STOP_S = 15.0
_TRIES = 200


class Keeper:
    """Watches `front` from start() to let_go(); `say` is told "died", "restarted", and why not.

    Where the virtual address is just on its way to another port it is tried again.
    """

    def __init__(self, front: Front, say: Callable[[dict[str, str]], None]) -> None:
        self._front, self._say = front, say
        self._stopping = threading.Event()
        self._lock = threading.Lock()  # one kills or starts it at a time
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Begin to watch it."""
        self._thread.start()

    def _watch(self) -> None:
        failures = 0
        while not self._stopping.wait(LOOK_S):
            if self._front.running or failures >= _TRIES:
                continue
            if not failures:
                self._say({"what": "died"})
            try:
                with self._lock:
                    self._front.kill()
                    self._front.restart()
            except LabError as refused:
                if not failures:
                    self._say({"what": "not-restarted", "why": str(refused)})
                failures += 1
            else:
                failures = 0
                self._say({"what": "restarted"})

    def kill(self) -> None:
        """SIGKILL what answers there, to be started again when nothing is left of it."""
        with self._lock:  # its end can be seen before kill() has done
            self._front.kill()

    def let_go(self) -> None:
        """Do not start it again; returns when nothing is being started any more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)
