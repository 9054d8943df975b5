"""Loads on several disks of one host at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lab.host.host import LabHost
from lab.host.initiator import Disk, Session
from lab.load.writer import Writer


class Loads:
    """A writer on each of some disks of `host`, from start() to stop_and_verify().

    On the timeline each is at a place of its own, `names`: "h1.sdb". Every writer is a process in
    the host, whose memory has room for about four.
    """

    def __init__(self, host: LabHost, disks: Sequence[tuple[Session, Disk]]) -> None:
        self._host = host
        self._writers = {
            f"{host.name}.{disk.device}": Writer(
                host.runner, host.lab.timeline, host.lab.folder.logs,
                program=host.initiator.writer(replace(session, device=disk.device)),
                blocks=256, seed=host.lab.setup.seed * 1_000_003 + number,
                name=f"{host.name}.{disk.device}",
            )
            for number, (session, disk) in enumerate(disks, 1)
        }  # fmt: skip

    @property
    def names(self) -> list[str]:
        """Where they are on the timeline."""
        return [*self._writers]

    def start(self) -> None:
        """Record the sessions as "before" and start writing to all of them."""
        self._host.session("before")
        for writer in self._writers.values():
            writer.start()

    def keep_writing(self, writes: int = 100, seconds: float = 60.0) -> None:
        """Wait until each has had `writes` writes acknowledged that begin from now on."""
        for writer in self._writers.values():
            writer.acknowledge(writes, seconds)

    def stop_and_verify(self) -> None:
        """End the writing, record the sessions as "after", and read everything back."""
        for writer in self._writers.values():
            writer.stop()
        self._host.session("after")
        for writer in self._writers.values():
            writer.verify()
