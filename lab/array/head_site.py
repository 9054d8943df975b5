"""Where a head runs: a kernel that shares its disks with other heads."""

from __future__ import annotations

from pathlib import Path

from lab.array.site import GuestSite

NICE = -15
"""Four heads' kernels share two processors in a lab. None may wait to send its heartbeat."""


class HeadSite(GuestSite):
    """The kernel of a head."""

    def plug(self, path: Path) -> str:
        """See GuestSite."""
        return self._kernel.plug(path, shared=True)

    def end_kernel(self) -> None:
        """The quick half of power_cut(); call that afterwards, when there is time."""
        self._kernel.end()

    def darken(self) -> None:
        """Take the carrier off its cables."""
        self._kernel.darken()
