"""The controller's output: timeline events on standard output, login answers in files."""

from __future__ import annotations

import json
import os
import stat
import time
from collections import deque
from pathlib import Path
from typing import Any

from lab.portal import Portal

KEEP = 10_000
"""How many events are kept for a slow reader; older ones are lost."""


class Output:
    """Writes events of kind `controller`, one JSON object a line; never waits for the reader."""

    def __init__(self, where: str, fd: int = 1) -> None:
        self._where, self._fd = where, fd
        self._events: deque[dict[str, Any]] = deque(maxlen=KEEP)
        self._waiting = b""
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            os.set_blocking(fd, False)

    def event(self, what: str, t: float | None = None, **details: Any) -> None:
        """Report that `what` happened at `t` (Unix seconds; None: now)."""
        t = round(time.time() if t is None else t, 6)
        known = {"t": t, "where": self._where, "kind": "controller", "what": what}
        self._events.append(known | details)  # `flush` writes it later

    def flush(self) -> bool:
        """Write as much as the reader takes; True if something is left."""
        while self._events or self._waiting:
            if not self._waiting:
                self._waiting = json.dumps(self._events.popleft()).encode() + b"\n"
            try:
                written = os.write(self._fd, self._waiting)
            except BlockingIOError:
                return True
            except OSError:
                # The reader is gone; the array still needs a controller.
                self._events.clear()
                written = len(self._waiting)
            self._waiting = self._waiting[written:]
        return False


class Steering:
    """One file for each host with the answer to its next login.

    `<folder>/<initiator address>` holds "ADDRESS:3260:Temporary" (IPv6 in brackets), or "here" to
    serve the host at the virtual port, and a newline. `default` and `default6` do so for unknown
    hosts. The front refuses a host without an answer. A file is replaced as a whole, and only when
    it changes.

    Files are written before addresses move, so put the folder on a tmpfs: on a disk with a busy
    journal they delayed a failover by 48 ms, on a tmpfs by less than 1 ms.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        if folder:
            folder.mkdir(parents=True, exist_ok=True)

    def write(self, initiator: str, address: str | None) -> None:
        """Write the answer for `initiator`: `address`, or None to serve it. Raises OSError."""
        if not self._folder:
            return
        path = self._folder / initiator
        text = answer(address)
        try:
            if path.read_text(encoding="ascii") == text:
                return
        except FileNotFoundError:
            pass
        new = self._folder / f".{initiator}.new"
        new.write_text(text, encoding="ascii")
        new.replace(path)


def answer(address: str | None) -> str:
    """A login answer in the form of targets/front/service.py; None: serve at the virtual port."""
    if address is None:
        return "here\n"
    return f"{Portal(address)}:Temporary\n"
