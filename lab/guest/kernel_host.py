"""KernelHost: a Mininet Host with a Linux kernel of its own (User-Mode Linux)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

from lab.commands import LocalProcess, LocalRunner
from lab.errors import LabError, WaitTimeout
from lab.evidence import Evidence
from lab.guest import seed as guest_seed
from lab.guest.cage import Cage, GuestSpace, own_users
from lab.guest.clock import GuestClock
from lab.guest.mconsole import mconsole
from lab.guest.seed import HOST_START, INSIDE, PREFIX
from lab.guest.ssh import Keys, SshRunner
from lab.mininet_classes import Host
from lab.timeline import Timeline
from lab.waiting import wait_for

_OUTSIDE = "169.254.0.1"
BOOT_SECONDS = 60.0
_LISTENS = "Not backgrounding"
"""dropbear's message on the console when it listens (its svr-main.c)."""
INIT = "as init process"
"""The kernel's message when it starts init (init/main.c)."""
_UBD_DEVICES = 16  # MAX_DEV in arch/um/drivers/ubd_kern.c; root and seed are the first two

KERNEL_TROUBLE = re.compile(
    r"\bBUG\b|WARNING:|\bOops\b|Kernel panic|Call Trace|hung_task|blocked for more than"
    r"|rcu.*stall|I/O error|Buffer I/O|critical target error|Out of memory|EXT4-fs error"
)
"""Console lines that mean trouble (like those that the check script of blktests finds)."""

# Only RAID-6 needs the RAID-6 benchmark, and it takes 0.85 s of a boot of 1 s. An interrupt just
# before the idle kernel sleeps waits for the next timer (os_idle_sleep, arch/um/os-Linux/time.c):
# 10 ms with a tick that never stops, else seconds.
KERNEL_OPTIONS = ("initcall_blacklist=raid6_select_algo", "nohz=off")


def kernel_argv(cage: Cage, node: int, name: str, memory_mib: int, options: list[str]) -> list[str]:
    """The command that starts a kernel in `cage`, with the network of process `node`.

    `name` must be unique among the kernels of the cage.
    """
    program = [
        "/usr/bin/linux.uml", f"mem={memory_mib}M", f"umid={name}", "root=/dev/ubda",
        "rootfstype=ext4", "init=/lab-init", *options,
    ]  # fmt: skip
    return cage.argv(node, program)


def mac_of(interface: str) -> str:
    """A locally administered MAC that stays the same across boots, like a real card's.

    With a random MAC, neighbours would send to the old one for a second after each boot.
    """
    digest = hashlib.sha256(interface.encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


class KernelHost(Host):
    """A host with its own kernel: power it on, run commands by `runner`, cut its power.

    Its kernel reads and writes frames on the veth that Mininet made, so that veth has no address.
    The management interface is another veth in the same namespace.
    """

    def __init__(self, name: str, inNamespace: bool = True, **params: object) -> None:
        self._process: LocalProcess | None = None
        self._runner: SshRunner | None = None
        self._clock: GuestClock | None = None
        self._boots = self._failed_boots = 0
        self._initialised = False
        self._trouble: list[str] = []
        self._listening = threading.Event()
        super().__init__(name, inNamespace, **params)

    def _popen(self, cmd: list[str], **params: Any) -> Any:
        """See mininet.node.Node. Its shell has a user namespace of its own, which then owns the
        network namespace: so its kernel can have the right to this network alone."""
        return super()._popen(cmd if self.shell else [*own_users(), *cmd], **params)

    def prepare(
        self,
        space: GuestSpace,
        keys: Keys,
        timeline: Timeline,
        logs: Path,
        *,
        addresses: dict[str, list[str]],
        start: str = HOST_START,
        programs: dict[str, bytes] | None = None,
        memory_mib: int = 96,
        nice: int = 0,
    ) -> None:
        """Configure this host, once, before power_on().

        `addresses` maps each interface of the namespace to the guest's addresses on it (with prefix
        length). `start` is shell text run at boot before SSH answers (default: a host's).
        `programs` are files for /run/lab (a name may have folders). `nice` is its kernel's nice
        value, if allowed.
        """
        self._cage, self._keys, self._timeline = space.cage(self.name), keys, timeline
        self._read = Evidence(timeline, self.name, "console")
        self._console_log = logs / f"{self.name}-console.log"
        self._clock_log = logs / f"{self.name}-clock.log"
        self._addresses, self._start = addresses, start
        self._programs = programs or {}
        self._disks: dict[int, tuple[str, str]] = {}
        self._memory_mib, self._nice = memory_mib, nice
        self._outside = LocalRunner(self.name, self.pid)
        # A veth has carrier from the start. A tap gets it with the guest, and the kernel reports it
        # up to a second later (net/core/link_watch.c). The neighbour entry is permanent, because an
        # unanswered request is repeated only after a second.
        batch = [
            "link add mgmt type veth peer name outside",
            f"addr add {_OUTSIDE}/{PREFIX} dev outside",
            *(f"link set {interface} up" for interface in ("lo", "outside")),
            *(f"link set {interface} up promisc on" for interface in ("mgmt", *addresses)),
            f"neigh add {INSIDE} lladdr {mac_of(self.name + '-mgmt')} dev outside nud permanent",
        ]
        self._outside.run(["ip", "-batch", "-"], stdin="\n".join(batch))

    @property
    def runner(self) -> SshRunner:
        """Runs commands in it; raises LabError while it is powered off."""
        if self._runner is None:
            raise LabError(f"{self.name} is powered off")
        return self._runner

    def power_on(self) -> None:
        """Start its kernel and return at once; wait_ready() waits for SSH."""
        if self.runs:
            raise LabError(f"{self.name} is already powered on")
        if self._boots:
            self._links("up")
        self._boots += 1
        self._cage.seed.write_bytes(
            guest_seed.pack(self.name, self._addresses, self._start, self._keys, self._programs)
        )
        (self._cage.work / f"{self._boots - 1}.cow").unlink(missing_ok=True)
        devices = [
            f"ubd0=/work/{self._boots}.cow,/image/root.ext4",
            "ubd1r=/seed",
        ]
        devices += [f"ubd{i}{flag}={path}" for i, (flag, path) in self._disks.items()]
        interfaces = [*((name, name) for name in self._addresses), ("mgmt", f"{self.name}-mgmt")]
        devices += [
            f"vec{i}:transport=raw,ifname={interface},depth=128,gro=1,mac={mac_of(mac)}"
            for i, (interface, mac) in enumerate(interfaces)
        ]
        options = ["rw", "con=null", "con0=null,fd:1", *KERNEL_OPTIONS, *devices]
        name = f"{self.name}-{self._boots}"
        argv = kernel_argv(self._cage, self.pid, name, self._memory_mib, options)
        self._listening.clear()
        self._initialised, self._trouble = False, []
        self._read.begin()
        here = LocalRunner(self.name)  # the cage is in the mount namespace of the lab
        self._process = here.start(argv, log=self._console_log, on_line=self._console)
        if self._nice:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PGRP, self._process.pid, self._nice)

    def _console(self, line: str) -> None:
        with self._console_log.open("a", encoding="utf-8") as log:
            log.write(line + "\n")
        if _LISTENS in line:
            self._listening.set()
        if INIT in line or _LISTENS in line:
            self._initialised = True
        if KERNEL_TROUBLE.search(line):
            self._trouble.append(line.strip())
        while self._initialised and self._trouble:
            self._timeline.add(self.name, "kernel-message", line=self._trouble.pop(0))

    def wait_ready(self, seconds: float = BOOT_SECONDS) -> None:
        """Wait until SSH answers; raises LabError with the console's last lines if it does not."""
        deadline = time.monotonic() + seconds
        try:
            # Do not poll with connects: each failed try costs a busy guest more time.
            wait_for(f"SSH of {self.name}", self._answers, seconds=seconds, every=0.003)
            self._runner = SshRunner.connect(
                self.name, self.pid, INSIDE, self._keys, seconds=deadline - time.monotonic()
            )
        except WaitTimeout as late:
            raise LabError(self._unbooted(str(late))) from None
        self._clock = GuestClock(self._runner, self._timeline, self._clock_log)
        self._clock.begin()

    @property
    def runs(self) -> bool:
        """Whether its kernel runs."""
        return self._process is not None and self._process.poll() is None

    def end_clock(self) -> None:
        """Measure its clock for the last time, if it runs; its evidence says if that failed."""
        if self._clock and self.runs:
            self._clock.end()
            self._clock = None

    def _answers(self) -> bool:
        if not self.runs:
            self._boot_again()
        return self._listening.is_set()

    def _boot_again(self) -> None:
        """Restart, once, a kernel that ended before its init; else raise LabError.

        One boot in thousands ended so: the kernel could not start a thread (EAGAIN), cause unknown.
        The guest has done nothing yet, so the run goes on. `boot-failed` is on the timeline, and
        the check kernel_quiet mentions it.
        """
        if self._process:
            self._process.kill()  # its helpers too; after this its last output has been read
        if self._process is None or self._initialised or self._failed_boots:
            raise LabError(self._unbooted("its kernel ended"))
        self._failed_boots += 1
        self._read.end()
        self._timeline.add(self.name, "boot-failed", said=self._trouble)
        self.power_on()

    def _unbooted(self, why: str) -> str:
        tail = self._console_log.read_text(errors="replace")[-1500:]
        return f"{self.name} did not boot: {why}; its console:\n{tail}"

    def power_cut(self) -> None:
        """Kill its kernel, as a power cut does; its memory is lost."""
        if self._process:
            self._process.kill()  # first: closing a connection takes a tenth of a second
            self._read.end()
        if self._clock:
            self._clock.gone()
            self._clock = None
        self.darken()
        if self._runner:
            self._runner.close()
            self._runner = None

    def end(self) -> None:
        """The quick part of power_cut(): its kernel stops, but is not cleaned up."""
        if self._process:
            self._process.halt()

    def darken(self) -> None:
        """Take the carrier off its cables, as a power cut does; power_on() restores it."""
        self._links("down")

    def _links(self, way: str) -> None:
        lines = "\n".join(f"link set {interface} {way}" for interface in self._addresses)
        self._outside.run(["ip", "-batch", "-"], stdin=lines)

    def plug(self, file: Path, *, shared: bool = False) -> str:
        """Add `file` as a disk, now and at later boots.

        Returns its device. Raises LabError if the kernel refuses or has no free place. The kernel
        locks the file unless it is `shared` with other kernels.
        """
        free = [i for i in range(2, _UBD_DEVICES) if i not in self._disks]
        if not free:
            raise LabError(f"{self.name} has {_UBD_DEVICES - 2} disks and no room for {file}")
        name = f"ubd{chr(ord('a') + free[0])}"
        flag = "c" if shared else ""  # arch/um/drivers/ubd_kern.c, ubd_setup_common
        path = self._cage.give(file)
        try:
            self._tell_kernel(f"config {name}{flag}={path}")
        except LabError:
            self._cage.take_back(path)
            raise
        self._disks[free[0]] = (flag, path)
        return f"/dev/{name}"

    def unplug(self, device: str) -> None:
        """Remove a disk; raises LabError while the kernel uses it."""
        name = device.removeprefix("/dev/")
        self._tell_kernel(f"remove {name}")
        _, path = self._disks.pop(ord(name[-1]) - ord("a"))
        self._cage.take_back(path)

    def _tell_kernel(self, command: str) -> None:
        console = self._cage.work / ".uml" / f"{self.name}-{self._boots}"
        mconsole(self.pid, console, command)
