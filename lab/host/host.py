"""A host of a running lab, with all that a scenario may do to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Protocol

from lab.array.access import Access, Secrets
from lab.array.array import Array
from lab.commands import LocalRunner, Runner
from lab.errors import BadInput, LabError
from lab.folder import Folder
from lab.guest.kernel_host import KernelHost
from lab.host.initiator import Disk, Initiator, Kind, Seat, Session
from lab.host.open_iscsi import OpenIscsi
from lab.host.outside import read_outside
from lab.load.heavy import write_heavily
from lab.load.several import Loads
from lab.load.swaps import Swaps
from lab.load.writer import Writer
from lab.mininet_classes import Host
from lab.timeline import Timeline
from lab.topology.topology import HostSpec


class HostLab(Protocol):
    """What a host needs of its lab."""

    @property
    def timeline(self) -> Timeline:
        """The record of the run."""

    @property
    def folder(self) -> Folder:
        """The run folder."""

    @property
    def array(self) -> Array:
        """The storage system."""

    @property
    def hosts(self) -> Mapping[str, object]:
        """All hosts by name, in the order of the topology."""

    @property
    def seed(self) -> int:
        """The seed of the content and order of all loads."""

    @property
    def access(self) -> Access:
        """Who may log in, and with which CHAP secrets."""


class LabHost:
    """A host of a running lab: its initiator, and the load on its disk.

    Its `node` is a KernelHost if its `kind` of initiator needs a kernel, else a plain one.
    """

    def __init__(self, lab: HostLab, spec: HostSpec, node: Host, kind: Kind) -> None:
        self.lab, self.spec, self.name = lab, spec, spec.name
        self._node, self._kind = node, kind
        self._initiator: Initiator | None = None
        self._writer: Writer | None = None
        self._loads = 0
        self._files: dict[str, tuple[Writer, Path]] = {}
        self._address = ""

    @property
    def kernel(self) -> KernelHost:
        """Its own kernel; raises BadInput if it has none."""
        if not isinstance(self._node, KernelHost):
            raise BadInput(f"{self.name} has no kernel of its own; use --initiator open-iscsi")
        return self._node

    @property
    def runner(self) -> Runner:
        """The runner of its commands."""
        if isinstance(self._node, KernelHost):
            return self._node.runner
        return LocalRunner(self.name, self._node.pid)

    @property
    def initiator(self) -> Initiator:
        """Its initiator; raises LabError before the host is ready."""
        if self._initiator is None:
            raise LabError(f"{self.name} is not ready")
        return self._initiator

    @property
    def open_iscsi(self) -> OpenIscsi:
        """Its initiator, for what only open-iscsi can do; raises BadInput for libiscsi."""
        if not isinstance(self.initiator, OpenIscsi):
            raise BadInput(f"{self.name} does not run open-iscsi; use --initiator open-iscsi")
        return self.initiator

    def ready(self) -> None:
        """Wait until it answers, and start its initiator."""
        if isinstance(self._node, KernelHost):
            self._node.wait_ready()
        targets = self.lab.array.spec.targets
        luns = {t.iqn: min(lun.number for lun in t.luns) for t in targets}
        seat = Seat(self.runner, self.lab.timeline, self.lab.folder, luns)
        initiator = self._kind.make(seat)
        initiator.start()
        self._initiator = initiator
        known = self.lab.access.known_to(self.name)
        if known != Secrets():
            initiator.learn(known)

    def close(self) -> None:
        """End the host with the lab."""
        if isinstance(self._node, KernelHost):
            self._node.power_cut()
            return
        if self._writer:
            self._writer.kill()
        if self._initiator:
            self._initiator.kill()

    @property
    def virtual(self) -> str:
        """The virtual address that the host knows: the one in its subnet."""
        return self.lab.array.virtual_for(self.spec)

    def discover(self) -> list[str]:
        """Ask the virtual port for its portals (SendTargets)."""
        return self.initiator.discover(self.virtual)

    def login(self) -> Session:
        """Discover, and log in to each target at the virtual port; returns the first session."""
        self.discover()
        for target in self.lab.array.spec.targets:
            self.initiator.login(target.iqn, self.virtual)
        return self.session("login")

    def session(self, moment: str) -> Session:
        """Record all sessions under the name `moment`, and return the first.

        Raises LabError if there is none.
        """
        found = self.initiator.sessions()
        for session in found:
            self.lab.timeline.add(self.name, "session", moment=moment, **asdict(session))
        if not found:
            raise LabError(f"{self.name} has no session ({moment})")
        self._address = found[0].address
        return found[0]

    @property
    def address(self) -> str:
        """The address that served its first session when that was last recorded; LabError if never.

        It asks nothing of the host, whose one processor has to see in 1 ms that a connect is done:
        iscsid looks again after a second only (session_conn_poll, usr/initiator.c of open-iscsi).
        """
        if not self._address:
            raise LabError(f"no session of {self.name} was recorded")
        return self._address

    def start_writing(
        self,
        blocks: int = 256,
        *,
        durable: bool = False,
        size: int = 1,
        depth: int = 1,
        rate: float = 0.0,
    ) -> None:
        """Record the session as "before" and write to its disk until stop_writing().

        `durable`: an acknowledged write must outlast a power cut of the disk (O_DSYNC). `size`:
        blocks of 4 KiB in one operation (at most 256), `depth`: operations in flight (at most 32),
        `rate`: writes a second at most (0: no limit). Every write is read back before its block is
        written again; raises BadInput for what is out of bounds.
        """
        if depth > 1 and not isinstance(self._node, KernelHost):
            raise BadInput(f"{self.name}: a load with libiscsi has one operation in flight")
        session = self.session("before")
        if self._writer:
            self._writer.close()
        place = [*self.lab.hosts].index(self.name)
        self._writer = Writer(
            self.runner, self.lab.timeline, self.lab.folder.logs,
            program=self.initiator.writer(session), blocks=blocks, seed=self._next_seed(),
            durable=durable, first=place * blocks,  # beside other hosts, if the disk is shared
            size=size, depth=depth, rate=rate,
        )  # fmt: skip
        self._files[self.name] = self._writer, self._file(session.target)
        self._writer.start()

    def _next_seed(self) -> int:
        """The seed of one more load. Each load writes other content; else an old load could hide a
        lost write of a new one."""
        self._loads += 1
        place = [*self.lab.hosts].index(self.name)
        return (self.lab.seed * 1_000_003 + place * 1009 + self._loads) % 2**64

    @property
    def writer(self) -> Writer:
        """The load; raises LabError before start_writing()."""
        if self._writer is None:
            raise LabError(f"{self.name} has no load; call start_writing() first")
        return self._writer

    def keeps_writing(self, writes: int = 300, seconds: float = 60.0) -> None:
        """Wait until `writes` writes that begin after this call are acknowledged.

        Raises WaitTimeout after `seconds`.
        """
        self.writer.acknowledge(writes, seconds)

    def stop_writing(self) -> None:
        """End the load and record the session as "after"."""
        self.writer.stop()
        self.session("after")

    def verify(self) -> None:
        """Read back every block whose write was acknowledged."""
        self.writer.verify()

    def stop_and_verify(self) -> None:
        """End the load, record the session as "after", and read everything back."""
        self.stop_writing()
        self.verify()

    def write_and_verify(self, writes: int = 600) -> None:
        """Run a whole load of at least `writes` writes."""
        self.start_writing()
        self.keeps_writing(writes)
        self.stop_and_verify()

    def loads_on(self, disks: Sequence[tuple[Session, Disk]]) -> Loads:
        """A writer for each of `disks`; none is started."""
        loads = Loads(
            {
                f"{self.name}.{disk.device}": Writer(
                    self.runner, self.lab.timeline, self.lab.folder.logs,
                    program=self.initiator.writer(replace(session, device=disk.device)),
                    blocks=256, seed=self._next_seed(),
                    name=f"{self.name}.{disk.device}",
                )
                for session, disk in disks
            },
            self.session,
        )  # fmt: skip
        for (session, disk), writer in zip(disks, loads.writers, strict=True):
            self._files[writer.name] = writer, self._file(session.target, disk.lun)
        return loads

    def _file(self, target: str, lun: int | None = None) -> Path:
        """The file behind a LUN, the lowest one if `lun` is None."""
        (luns,) = (one.luns for one in self.lab.array.targets if one.iqn == target)
        number = min(unit.number for unit in luns) if lun is None else lun
        return next(unit.path for unit in luns if unit.number == number)

    def read_files(self, unwritten: str) -> None:
        """Read what its loads wrote in the LUNs' files; the array must have stopped.

        `unwritten`: why the array may not have written all of it; then nothing is read.
        """
        for writer, path in self._files.values():
            if unwritten:
                self.lab.timeline.add(writer.name, "lun-file", what=unwritten)
            elif writer.acknowledged:
                read_outside(writer, path, self.lab.timeline)

    def start_swapping(self) -> Swaps:
        """Swap the slots that all hosts share on the first disk, by COMPARE AND WRITE.

        BadInput for a host without a kernel of its own.
        """
        runner = self.kernel.runner
        device, number = self.session("swaps").device, [*self.lab.hosts].index(self.name) + 1
        swaps = Swaps(
            runner, self.lab.timeline, self.lab.folder.logs, device, number, self.lab.seed
        )
        swaps.start()
        return swaps

    def write_heavily(self, seconds: int) -> None:
        """Write large blocks to its disk for `seconds`, as fast as possible; LabError if one fails.

        The load of start_writing() may run as well. These blocks are not verified.
        """
        device = self.session("heavy").device
        write_heavily(self.runner, device, self.lab.timeline, seconds)

    def power_cut(self) -> None:
        """End its kernel at once; its memory is lost and its load ends."""
        self.kernel.power_cut()
        self._initiator = None
        if self._writer:
            self.lab.timeline.add(self.name, "load", phase="end", name="writer")

    def power_on(self) -> None:
        """Boot the host again; returns when its initiator is ready, without a session."""
        self.kernel.power_on()
        self.ready()

    def verify_after_power_cut(self) -> None:
        """Read back the writes acknowledged before power_cut(); the host is logged in again."""
        session = self.session("after")
        self.writer.resume(self.runner, self.initiator.writer(session))
        self.verify()
