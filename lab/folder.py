"""The folder that a run writes to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

RUNS = Path("runs")
"""Where folders go for which nobody named a place."""


def stamp() -> str:
    """The time now (UTC) as the beginning of a folder's name: such names sort by time."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


@dataclass(frozen=True)
class Folder:
    """A run folder: `path` and what is in it."""

    path: Path

    @property
    def logs(self) -> Path:
        """Logs of every process and console."""
        return self.path / "logs"

    @property
    def captures(self) -> Path:
        """Packet captures at the hosts' switch ports."""
        return self.path / "pcap"

    @property
    def disks(self) -> Path:
        """The files behind the LUNs."""
        return self.path / "luns"

    @property
    def work(self) -> Path:
        """Scratch space, in memory while the lab runs and empty afterwards."""
        return self.path / ".work"
