"""The record of a run: every load, fault and observer appends its events."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from lab.errors import BadInput

Event = dict[str, Any]
"""`t` (Unix seconds, one clock for all hosts), `where`, `kind`, and the keys of that kind."""

TAKE_DOWN = "take-down"
"""The name of the `moment` at which a scenario ends and the lab's take-down begins."""
BUILT = "built"
"""The name of the `moment` at which the lab is complete and the scenario begins to act."""


class Timeline:
    """Events in order of arrival, also written to `path`, one JSON object a line.

    Any thread may append. Each event is flushed to the file at once. `path` None keeps the events
    in memory only. If a write fails (a full disk), `failure` holds the error and the events stay
    complete in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.failure: OSError | None = None
        self._events: list[Event] = []
        self._lock = threading.Lock()
        self._file = path.open("a", encoding="utf-8") if path else None

    def add(self, where: str, kind: str, *, t: float | None = None, **details: Any) -> Event:
        """Append one event that happened at `t` (now, if not given) and return it."""
        event: Event = {
            "t": round(time.time() if t is None else t, 6),
            "where": where,
            "kind": kind,
        }
        event.update(details)
        self.extend([event])
        return event

    def extend(self, events: Iterable[Event]) -> None:
        """Append events of another process or a guest."""
        batch = list(events)
        with self._lock:
            self._events.extend(batch)
            if self._file and batch:
                try:
                    self._file.write("".join(json.dumps(e) + "\n" for e in batch))
                    self._file.flush()
                except OSError as failed:
                    # Close here: Python 3.13 reports it if the garbage collector fails to flush.
                    with suppress(OSError):
                        self._file.close()
                    self.failure, self._file = failed, None

    def events(self, kind: str | None = None, where: str | None = None) -> list[Event]:
        """The events so far, sorted by time; only of `kind` and at `where`, if given."""
        with self._lock:
            found = [
                e
                for e in self._events
                if (kind is None or e["kind"] == kind) and (where is None or e["where"] == where)
            ]
        return sorted(found, key=lambda e: e["t"])

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events())

    def close(self) -> None:
        """Close the file; the events stay readable."""
        with self._lock:
            file, self._file = self._file, None
            if file:
                file.close()

    @classmethod
    def read(cls, path: Path) -> Timeline:
        """The timeline of an earlier run, without a torn last line.

        Raises BadInput with the line number if another line is not an event.
        """
        timeline = cls()
        lines = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, 1):
            try:
                event = json.loads(line)
                if not {"t", "where", "kind"} <= event.keys():
                    raise ValueError("not an event")
            except (ValueError, AttributeError) as wrong:
                if number == len(lines):
                    break  # the text after the last newline: cut off, or empty
                raise BadInput(f"{path}:{number}: {wrong}") from None
            timeline._events.append(event)
        return timeline
