"""Progress on standard error: one line that changes for people, plain lines for logs."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

_ERASE = "\r\x1b[K"  # to the beginning of the line, and clear it (ECMA-48, EL)


class Progress:
    """While entered, say() shows the current step and the seconds since the beginning.

    On a terminal one line is rewritten; elsewhere each step is a line. No thread updates the line,
    because the lab forks.
    """

    def __init__(self, title: str, stream: TextIO | None = None) -> None:
        self._title, self._stream = title, stream or sys.stderr
        self._began = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._stream.isatty():
            self._write(_ERASE)

    def say(self, what: str) -> None:
        """Show `what`, with the seconds since the beginning."""
        line = f"{self._title}  {time.monotonic() - self._began:5.1f} s  {what}"
        self._write(f"{_ERASE}{line[:120]}" if self._stream.isatty() else f"{line}\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
