"""The front: the process that answers at the virtual port."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from targets.base import ChapAccount, TargetSpec


class Front(Protocol):
    """What answers at the virtual addresses of an array: it redirects a host, or serves it."""

    @property
    def steering(self) -> Path | None:
        """The folder where a controller writes an answer for each host (lab/controller/output.py).

        None: it has one answer for all hosts, and only steer() changes it.
        """

    @property
    def running(self) -> bool:
        """Whether its process is there."""

    def protect_discovery(self, account: ChapAccount) -> None:
        """Ask for `account` at discovery, from `start` on; BadInput if it is none."""

    def start(self, portals: Sequence[str], targets: Sequence[TargetSpec], engine: str) -> None:
        """Answer at `portals` for `targets`; the engine of the data ports is at portal `engine`."""

    def steer(self, initiator: str | None, portal: str | None, *, permanent: bool = False) -> None:
        """Decide where the host at address `initiator` (None: any other host) is sent to.

        `portal` None serves it at the virtual port. It counts from the next login on.
        """

    def kill(self) -> None:
        """SIGKILL it and clear away what is left of it; redirected sessions go on."""

    def restart(self) -> None:
        """Start it again after `kill`, with all that it was told; LabError if it cannot be now."""

    def stop(self) -> None:
        """End it and remove everything of it but its log; may be called twice."""
