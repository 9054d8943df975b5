"""The place where an array is: a network namespace of this machine, or a kernel of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from lab.commands import OnLine, Process, Runner
from lab.guest.kernel_host import KernelHost
from lab.guest.seed import guest_packages
from lab.observe import AddressWatcher, GuestAddressWatcher
from lab.timeline import Timeline

# Replaced in one step, so that a reader sees the old or the new content.
_PUT = 'mkdir -p "${1%/*}" && cat > "$1.new" && mv "$1.new" "$1"'
_PUT_AWAY = 'rm -rf "$@"'


class Site:
    """A network namespace, of process `pid`: its processes are this machine's.

    `folder`, where its files are, belongs in memory: what steers logins is written on the critical
    path of a fail-over.
    """

    python = sys.executable
    packages = Path(__file__).parents[2]

    def __init__(self, runner: Runner, folder: Path, pid: int | None = None) -> None:
        self._runner, self.folder, self._pid = runner, folder, pid

    @property
    def runner(self) -> Runner:
        """Where its commands run; LabError while it is powered off."""
        return self._runner

    def wait_ready(self) -> None:
        """Wait until it takes commands: at once."""

    def interface(self, name: str) -> str:
        """What the array's interface `name` of the topology is called here."""
        return name

    def watch(
        self, timeline: Timeline, names: Mapping[str, str], logs: Path
    ) -> AddressWatcher | GuestAddressWatcher:
        """An observer of its addresses; `names` maps interfaces (as they are here) to ports."""
        return AddressWatcher(timeline, self._pid, names)

    def put(self, name: str, text: str) -> Path:
        """Write the file `name` of its folder, in one step, and return its path here."""
        path = self.folder / name
        self.runner.run(["sh", "-c", _PUT, "put", str(path)], stdin=text)
        return path

    def put_away(self, *names: str) -> None:
        """Remove files or folders of its folder, those that are there."""
        self.runner.run(["sh", "-c", _PUT_AWAY, "put", *(str(self.folder / n) for n in names)])

    def start_module(
        self,
        module: str,
        *arguments: str,
        log: Path,
        on_line: OnLine,
        isolated: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a Python module of this project; `isolated`: it needs the standard library only."""
        # Neither what lies about in the working directory (-P) nor, isolated, site-packages (-S).
        options = ["-P", "-S"] if isolated else ["-P"]
        argv = [self.python, *options, "-m", module, *arguments]
        return self.runner.start(
            argv, log=log, on_line=on_line, env={"PYTHONPATH": str(self.packages), **(env or {})}
        )


class GuestSite(Site):
    """A kernel of its own: the array loses what is in its memory with its power.

    `disks` is the folder with the files behind the LUNs, which the caller has bound to /luns of the
    guests' chroot.
    """

    python = "python3"
    packages = Path("/run/lab")
    modules = ("lab", "lab.controller", "targets", "targets.front", "targets.lio", "targets.relay")
    # A module here; the settings that the controller's addresses need are there with it.
    start = "modprobe ipv6"

    def __init__(self, kernel: KernelHost, disks: Path) -> None:
        self._kernel, self._disks = kernel, disks
        self.memory = disks / f"{kernel.name}-memory.img"  # of its own, and outlasts power cuts
        self.folder = Path("/run/array")

    @classmethod
    def programs(cls) -> dict[str, bytes]:
        """What KernelHost.prepare() must be given as `programs`, and `start` as that."""
        return guest_packages(*cls.modules)

    @property
    def runner(self) -> Runner:
        """See Site."""
        return self._kernel.runner

    def interface(self, name: str) -> str:
        """See Site; as lab.guest.kernel_host names it."""
        return name.removeprefix(f"{self._kernel.name}-")

    def watch(
        self, timeline: Timeline, names: Mapping[str, str], logs: Path
    ) -> GuestAddressWatcher:
        """See Site."""
        return GuestAddressWatcher(timeline, self.runner, names, logs / "ip-monitor.log")

    def plug(self, path: Path) -> str:
        """Give the kernel a file of `disks` as a disk, also at later boots; returns its device."""
        return self._kernel.plug(f"/luns/{path.relative_to(self._disks)}")

    def unplug(self, device: str) -> None:
        """Take a disk away again."""
        self._kernel.unplug(device)

    def wait_ready(self) -> None:
        """See Site; the kernel has been powered on."""
        self._kernel.wait_ready()

    def power_cut(self) -> None:
        """End the kernel at once."""
        self._kernel.power_cut()

    def power_on(self) -> None:
        """Boot it again, and wait until it takes commands."""
        self._kernel.power_on()
        self._kernel.wait_ready()
