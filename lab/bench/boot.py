"""Boot times: of a host until its first command, and of its bare kernel, in turn."""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from lab import sandbox
from lab.commands import LocalRunner
from lab.errors import LabError
from lab.guest.cage import Cage, GuestSpace
from lab.guest.image import Image
from lab.guest.kernel_host import INIT, KERNEL_OPTIONS, KernelHost, kernel_argv
from lab.guest.ssh import Keys
from lab.timeline import Timeline


@dataclass(frozen=True)
class BootTimes:
    """Seconds, one figure of each kind per trial.

    `bare`: the release's kernel without options until it starts init. `trimmed`: the same with the
    options of hosts. `ready`: a host until a command over SSH has ended. `two_ready`: two hosts at
    once.
    """

    bare: list[float]
    trimmed: list[float]
    ready: list[float]
    two_ready: list[float]

    def as_json(self) -> dict[str, object]:
        """Medians in seconds, the ratio to the bare kernel, and all samples."""
        medians = {name: round(statistics.median(values), 3) for name, values in vars(self).items()}
        return {
            "median_s": medians,
            "ready_over_bare": round(medians["ready"] / medians["bare"], 2),
            "samples_s": {n: [round(v, 3) for v in values] for n, values in vars(self).items()},
        }


def measure(image: Image, work: Path, trials: int) -> BootTimes:
    """Boot each kind `trials` times, in turn; needs the sandbox and an empty folder `work`."""
    sandbox.mount_tmpfs(work)
    space, keys, timeline = GuestSpace.prepare(image, work), Keys.make(), Timeline()
    hosts = [KernelHost(name) for name in ("h1", "h2")]
    for host in hosts:
        LocalRunner(host.name, host.pid).run(
            ["ip", "link", "add", f"{host.name}-eth0", "type", "veth", "peer", "name", "away"]
        )
        interface = {f"{host.name}-eth0": ["10.0.0.1/24"]}
        host.prepare(space, keys, timeline, work, addresses=interface)
    bare, cage = KernelHost("bare"), space.cage("bare")
    times = BootTimes([], [], [], [])
    for trial in range(trials):
        times.bare.append(_until_init(cage, bare.pid, work / f"bare{trial}", ()))
        times.trimmed.append(_until_init(cage, bare.pid, work / f"trim{trial}", KERNEL_OPTIONS))
        times.ready.append(_until_ready(hosts[:1]))
        times.two_ready.append(_until_ready(hosts))
    return times


def _until_init(cage: Cage, node: int, log: Path, options: tuple[str, ...]) -> float:
    reached = threading.Event()

    def see(line: str) -> None:
        if INIT in line:
            reached.set()

    began = time.monotonic()
    argv = kernel_argv(
        cage, node, log.name, 96, ["ubd0r=/image/root.ext4", "con=null", "con0=null,fd:1", *options]
    )
    kernel = LocalRunner(log.name).start(argv, log=log, on_line=see)
    try:
        if not reached.wait(30.0):
            raise LabError(f"the bare kernel did not reach init: {log.read_text()[-500:]}")
        return time.monotonic() - began
    finally:
        kernel.kill()


def _until_ready(hosts: list[KernelHost]) -> float:
    began = time.monotonic()
    for host in hosts:
        host.power_on()
    for host in hosts:
        host.wait_ready()
        host.runner.run(["true"])
    took = time.monotonic() - began
    for host in hosts:
        host.power_cut()
    return took
