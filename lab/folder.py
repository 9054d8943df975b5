"""The folder that a run writes to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
