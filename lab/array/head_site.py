"""Where a head runs: a kernel that shares its disks with other heads."""

from __future__ import annotations

from pathlib import Path

from lab.array.site import GuestSite
from lab.guest.clock import align
from lab.guest.kernel_host import KernelHost
from lab.timeline import Timeline

NICE = -15
"""Four heads' kernels share two processors in a lab. None may wait to send its heartbeat."""


class HeadSite(GuestSite):
    """The kernel of a head. `log` is the file for the output of its clock setting."""

    def __init__(self, kernel: KernelHost, disks: Path, timeline: Timeline, log: Path) -> None:
        super().__init__(kernel, disks)
        self._timeline, self._log = timeline, log

    def plug(self, path: Path) -> str:
        """See GuestSite."""
        return self._kernel.plug(path, shared=True)

    def end_kernel(self) -> None:
        """The quick half of power_cut(); call that afterwards, when there is time."""
        self._kernel.end()

    def darken(self) -> None:
        """Take the carrier off its cables."""
        self._kernel.darken()

    def wait_ready(self) -> None:
        """See GuestSite. Also sets its clock: the order of events on two heads matters."""
        super().wait_ready()
        clock = align(self.runner, self._log)
        within = round(clock.within_s * 1000, 3)
        self._timeline.add(self._kernel.name, "clock", within_ms=within)

    def power_on(self) -> None:
        """See GuestSite."""
        self._kernel.power_on()
        self.wait_ready()
