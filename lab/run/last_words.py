"""What only the take-down can tell the judge: clocks, frames, and what the LUNs' files hold."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from lab.errors import LabError
from lab.evidence import Evidence
from lab.guest.kernel_host import KernelHost
from lab.host.host import LabHost
from lab.observe import Capture, decode
from lab.timeline import Timeline


def end_clocks(guests: Iterable[KernelHost]) -> None:
    """Measure the clocks of the guests once more, all at the same time."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(KernelHost.end_clock, guests))


class LunFiles:
    """The files behind the LUNs, read when the array has stopped.

    Its kernels first write back what they hold in memory: what an array acknowledged with a write
    cache is not lost by the lab's own take-down. One without power has lost it.
    """

    def __init__(self) -> None:
        self._unwritten = ""

    def write_back(self, kernels: Iterable[KernelHost]) -> None:
        """Let the array's own kernels, as far as they run, write back; none on this machine's."""
        for kernel in kernels:
            try:
                if kernel.runs:
                    kernel.runner.run(["sync"])
            except LabError as failed:
                self._unwritten = str(failed)

    def read(self, hosts: Collection[LabHost]) -> None:
        """Read what the hosts wrote, or say why that would prove nothing."""
        for host in hosts:
            host.read_files(self._unwritten)


def decode_captures(
    capture: Capture, hosts: Mapping[str, str], timeline: Timeline, *, served: bool, since: float
) -> None:
    """Put on the timeline what the captures, which began at `since`, show of the `hosts` (address
    to name); see lab.observe.decode()."""
    decoder = Evidence(timeline, "lab", "decoder")
    decoder.begin(t=since)
    timeline.extend(decode(capture.files, hosts, served=served))
    decoder.end()
