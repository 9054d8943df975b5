"""Loads on several disks of one host."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lab.load.writer import Writer


class Loads:
    """Several writers of one host, from start() to stop_and_verify().

    `writers` are by their `where` on the timeline: "h1.sdb". Each is a process in the host, whose
    memory has room for about four. `record` puts the host's sessions on the timeline under the name
    of a moment.
    """

    def __init__(self, writers: Mapping[str, Writer], record: Callable[[str], object]) -> None:
        self._writers, self._record = dict(writers), record

    @property
    def writers(self) -> list[Writer]:
        """All of them, in order."""
        return [*self._writers.values()]

    @property
    def names(self) -> list[str]:
        """The `where` of each on the timeline."""
        return [*self._writers]

    def start(self) -> None:
        """Record the sessions as "before" and start all writers."""
        self._record("before")
        for writer in self._writers.values():
            writer.start()

    def keep_writing(self, writes: int = 100, seconds: float = 60.0) -> None:
        """Wait until each writer has `writes` acknowledged writes that began after this call."""
        for writer in self._writers.values():
            writer.acknowledge(writes, seconds)

    def stop_and_verify(self) -> None:
        """Stop all writers, record the sessions as "after", and read everything back."""
        for writer in self._writers.values():
            writer.stop()
        self._record("after")
        for writer in self._writers.values():
            writer.verify()
