"""A host of a running lab, as a scenario acts on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.errors import LabError
from lab.guest import KernelHost
from lab.initiator import OpenIscsi, Session
from lab.load import Writer
from lab.topology import HostSpec

if TYPE_CHECKING:
    from lab.running import Lab


class LabHost:
    """A host of a running lab: its kernel, its initiator, and the load on its disk."""

    def __init__(self, lab: Lab, spec: HostSpec, kernel: KernelHost) -> None:
        self.lab, self.spec, self.kernel, self.name = lab, spec, kernel, spec.name
        self._initiator: OpenIscsi | None = None
        self._writer: Writer | None = None
        self._loads = 0

    @property
    def initiator(self) -> OpenIscsi:
        """Its initiator; raises LabError before the host is ready."""
        if self._initiator is None:
            raise LabError(f"{self.name} is not ready")
        return self._initiator

    def ready(self) -> None:
        """Wait until its kernel answers, and start its initiator."""
        self.kernel.wait_ready()
        self._initiator = OpenIscsi(self.kernel.runner, self.lab.timeline, self.lab.folder.logs)
        self._initiator.start()

    def discover(self) -> list[str]:
        """Ask the virtual port for portals (SendTargets)."""
        return self.initiator.discover(self.lab.array.virtual)

    def login(self) -> Session:
        """Discover and log in at the virtual port, as a host does."""
        self.discover()
        self.initiator.login(self.lab.array.spec.iqn, self.lab.array.virtual)
        return self.session("login")

    def session(self, moment: str) -> Session:
        """Its session, also put on the timeline under the name `moment`."""
        found = self.initiator.snapshot(moment)
        if not found:
            raise LabError(f"{self.name} has no session ({moment})")
        return found[0]

    def start_writing(self, blocks: int = 1024, *, durable: bool = False) -> None:
        """Record the session as "before" and write to its disk until stop_writing().

        `durable`: what is acknowledged must outlast a power cut of the disk (O_DSYNC).
        """
        session = self.session("before")
        if self._writer:
            self._writer.close()
        # No two loads of a run write the same, or the older would hide that the newer is lost.
        self._loads += 1
        seed = self.lab.setup.seed * 1_000_003 + [*self.lab.hosts].index(self.name) * 1009
        self._writer = Writer(
            self.kernel.runner, self.lab.timeline, self.lab.folder.logs,
            device=session.device, blocks=blocks, seed=(seed + self._loads) % 2**64,
            durable=durable,
        )  # fmt: skip
        self._writer.start()

    @property
    def writer(self) -> Writer:
        """The load; raises LabError before start_writing()."""
        if self._writer is None:
            raise LabError(f"{self.name} does not write")
        return self._writer

    def keeps_writing(self, writes: int = 300, seconds: float = 60.0) -> None:
        """Wait until `writes` further writes are acknowledged; WaitTimeout after `seconds`."""
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
        """A load of `writes` writes from beginning to end."""
        self.start_writing()
        self.keeps_writing(writes)
        self.stop_and_verify()
