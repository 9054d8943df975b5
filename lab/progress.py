"""Progress on standard error: a moving line for people, plain lines for logs."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.status import Status


class Progress:
    """While it is entered, say() shows what is being done and for how long.

    On a terminal one line moves; elsewhere each step is a line of its own. `quiet` shows nothing.
    """

    def __init__(self, title: str, *, quiet: bool = False) -> None:
        self._title, self._quiet = title, quiet
        self._console = Console(stderr=True, highlight=False)
        self._status: Status | None = None
        self._began = time.monotonic()

    def __enter__(self) -> Progress:
        if not self._quiet and self._console.is_terminal:
            self._status = self._console.status(f"[bold]{self._title}[/]")
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._status:
            self._status.stop()

    def say(self, what: str) -> None:
        """Show `what`, with the seconds since the beginning."""
        elapsed = f"{time.monotonic() - self._began:5.1f} s"
        if self._status:
            text = f"[bold]{self._title}[/]  [dim]{elapsed}[/]  {escape(what)}"
            self._status.update(text)
        elif not self._quiet:
            self._console.print(f"{self._title}  {elapsed}  {what}", markup=False)
