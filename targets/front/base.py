"""The front: the process that answers at the virtual port."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from targets.base import ChapAccount, TargetSpec


class Front(Protocol):
    """The process at the virtual addresses of an array: it redirects a host, or serves it."""

    @property
    def steering(self) -> Path | None:
        """The folder where a controller writes an answer for each host (lab/controller/output.py).

        None: it has one answer for all hosts, and only steer() changes it.
        """

    @property
    def running(self) -> bool:
        """Whether its process is there."""

    def protect_discovery(self, account: ChapAccount) -> None:
        """Require `account` at discovery, from `start` on; BadInput if it is invalid."""

    def start(self, portals: Sequence[str], targets: Sequence[TargetSpec], engine: str) -> None:
        """Answer at `portals` for `targets`. `engine`: the portal of the engine."""

    def steer(self, initiator: str | None, portal: str | None, *, permanent: bool = False) -> None:
        """Redirect the host at address `initiator` (None: any other host) to `portal`.

        `portal` None: serve it at the virtual port. Valid from the next login on.
        """

    def kill(self) -> None:
        """SIGKILL it and clean up after it; redirected sessions go on."""

    def restart(self) -> None:
        """Start it again after `kill`, with all its settings; LabError if impossible now."""

    def stop(self) -> None:
        """End it and remove all but its log; may be called twice."""
