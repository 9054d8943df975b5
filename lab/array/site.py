"""Where an array runs: a network namespace of this machine, or a kernel of its own."""

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
    """The network namespace of process `pid`, on this machine's kernel.

    `folder` holds its files. It must be in memory: the file that steers logins is written on the
    critical path of a failover.
    """

    python = sys.executable
    packages = Path(__file__).parents[2]

    def __init__(self, runner: Runner, folder: Path, pid: int | None = None) -> None:
        self._runner, self.folder, self._pid = runner, folder, pid

    @property
    def runner(self) -> Runner:
        """The runner for its commands; LabError while it is powered off."""
        return self._runner

    def wait_ready(self) -> None:
        """Wait until it accepts commands: here it always does."""

    def interface(self, name: str) -> str:
        """The local name of the interface that the topology calls `name`."""
        return name

    def watch(
        self, timeline: Timeline, names: Mapping[str, str], logs: Path
    ) -> AddressWatcher | GuestAddressWatcher:
        """An observer of its addresses; `names` maps interfaces (as they are here) to ports."""
        return AddressWatcher(timeline, self._pid, names, where=self._runner.host)

    def put(self, name: str, text: str) -> Path:
        """Write the file `name` in its folder, atomically, and return its local path."""
        path = self.folder / name
        self.runner.run(["sh", "-c", _PUT, "put", str(path)], stdin=text)
        return path

    def put_away(self, *names: str) -> None:
        """Remove files or folders in its folder, if they exist."""
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
        # Import nothing from the working directory (-P) nor, if isolated, from site-packages (-S).
        options = ["-P", "-S"] if isolated else ["-P"]
        argv = [self.python, *options, "-m", module, *arguments]
        return self.runner.start(
            argv, log=log, on_line=on_line, env={"PYTHONPATH": str(self.packages), **(env or {})}
        )


class GuestSite(Site):
    """A kernel of its own: with its power the array loses its memory.

    `disks` is the folder with the files behind the LUNs.
    """

    python = "python3"
    packages = Path("/run/lab")
    modules = ("lab", "lab.controller", "targets", "targets.front", "targets.lio", "targets.relay")
    # IPv6 is a module here; the sysctls for the controller's addresses come with it.
    start = "modprobe ipv6"

    def __init__(self, kernel: KernelHost, disks: Path) -> None:
        self._kernel = kernel
        self.memory = disks / f"{kernel.name}-memory.img"  # its own; survives power cuts
        self.folder = Path("/run/array")

    @classmethod
    def programs(cls) -> dict[str, bytes]:
        """The argument `programs` for KernelHost.prepare(); `start` is another one."""
        return guest_packages(*cls.modules)

    @property
    def runner(self) -> Runner:
        """See Site."""
        return self._kernel.runner

    def interface(self, name: str) -> str:
        """See Site: the name that lab.guest.kernel_host gives it."""
        return name.removeprefix(f"{self._kernel.name}-")

    def watch(
        self, timeline: Timeline, names: Mapping[str, str], logs: Path
    ) -> GuestAddressWatcher:
        """See Site."""
        return GuestAddressWatcher(timeline, self.runner, names, logs / "ip-monitor.log")

    def plug(self, path: Path) -> str:
        """Attach a file as a disk, also at later boots; returns its device."""
        return self._kernel.plug(path)

    def unplug(self, device: str) -> None:
        """Detach a disk."""
        self._kernel.unplug(device)

    def wait_ready(self) -> None:
        """See Site; power_on() must have been called."""
        self._kernel.wait_ready()

    def power_cut(self) -> None:
        """End the kernel at once."""
        self._kernel.power_cut()

    def power_on(self) -> None:
        """Boot it again, and wait until it accepts commands."""
        self._kernel.power_on()
        self._kernel.wait_ready()
