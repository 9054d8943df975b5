"""The software that serves hosts at one site: a target engine, and the front before it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from lab.array.policy import Policy
from lab.array.site import Site
from lab.errors import BadInput, LabError, unknown
from lab.observe import AddressWatcher, GuestAddressWatcher
from lab.timeline import Timeline
from lab.topology.topology import ArraySpec, PortSpec
from targets import engines
from targets.base import OwnKernel, TargetSpec
from targets.front.base import Front
from targets.front.steered import SteeredFront


class TargetStack:
    """The engine named `target` serves `targets`. The front at the virtual addresses redirects to
    it, or serves. A watcher puts on the timeline which of `ports` has which address."""

    def __init__(
        self,
        spec: ArraySpec,
        policy: Policy,
        site: Site,
        target: str,
        targets: Sequence[TargetSpec],
        ports: Sequence[PortSpec],
        timeline: Timeline,
        logs: Path,
    ) -> None:
        self.site, self._spec, self._policy = site, spec, policy
        self._targets, self._timeline, self._logs = targets, timeline, logs
        self._ports = {site.interface(port.interface): port.name for port in ports}
        kind = engines.find(target)
        self.engine = kind.make(site, logs, policy.store)
        self.front: Front
        # A host that is asked to move needs an answer of its own at its next login.
        uniform = policy.front == "native" and not policy.serve and not policy.relay
        # So does each family: a host of the other one cannot go where the answer says.
        uniform &= len({address.version for address in spec.virtual}) == 1
        if kind.front and uniform:
            self.front = kind.front(site, logs, policy.parameters)
        else:
            self.front = SteeredFront(site, logs, on_event=self.front_said)
        self._discovery = policy.access.array.discovery
        if self._discovery:
            self.front.protect_discovery(self._discovery)
        self._watcher: AddressWatcher | GuestAddressWatcher | None = None
        self._undo = ExitStack()

    def front_said(self, event: dict[str, Any]) -> None:
        """Put an event of the virtual port on the timeline."""
        self._timeline.add(self._spec.name, "virtual-port", **event)

    def interface(self, port: str) -> str:
        """The interface of `port`, as the kernel here calls it."""
        found = [interface for interface, name in self._ports.items() if name == port]
        if not found:
            raise unknown("port", port, self._ports.values())
        return found[0]

    def owners(self, address: str) -> set[str]:
        """The ports here that have `address` now, read from the kernel."""
        shown = json.loads(self.site.runner.run(["ip", "-j", "addr", "show"]).output)
        return {
            self._ports.get(link["ifname"], link["ifname"])
            for link in shown
            for info in link["addr_info"]
            if info["local"] == address
        }

    def start(self, placing: str) -> None:
        """Place the addresses with the script `placing`; serve the targets at the data ports."""
        self.site.wait_ready()
        self._place(placing)
        self._undo.callback(self.engine.stop)
        self.engine.start()
        if self._discovery:
            self.engine.protect_discovery(self._discovery)
        for target in self._targets:
            self.engine.create(target)
            for name, value in self._policy.parameters.items():
                self.engine.set_parameter(target.iqn, name, value)
        if not self._policy.relay:
            data = {str(a.ip) for port in self._spec.ports for a in port.addresses}
            for address in sorted(data):
                self.engine.expose(address)

    def _place(self, placing: str) -> None:
        self._watcher = self.site.watch(self._timeline, self._ports, self._logs)
        self._undo.enter_context(self._watcher)
        self.site.runner.run(["sh"], stdin=placing)

    def open(self, answers: Mapping[str | None, str | None]) -> None:
        """Open the virtual port. `answers`: host address (None: any other) to data address (None:
        the virtual port serves it). Who opens it ends it, by the front's stop()."""
        for host, portal in answers.items():
            self.front.steer(host, portal)
        virtual = [str(address.ip) for address in self._spec.virtual]
        self.front.start(virtual, self._targets, self.engine.local_portal)

    def send_to(self, host: str, portal: str, *, permanent: bool = False) -> None:
        """See Array."""
        if self.front.steering is None:
            raise LabError(f"{self._spec.name}: the virtual port has one answer for all hosts")
        self.front.steer(host, portal, permanent=permanent)

    def kernel(self) -> OwnKernel:
        """Its engine; BadInput for an engine without a kernel of its own."""
        if not isinstance(self.engine, OwnKernel):
            raise BadInput(f"{self._spec.name}: {self.engine.name} has no kernel of its own")
        return self.engine

    def power_cut(self) -> None:
        """End the kernel here at once; BadInput for an engine without a kernel of its own."""
        self._off(self.kernel())
        self.unseen()

    def unseen(self) -> None:
        """Tell the watcher that the kernel here has lost its power."""
        if isinstance(self._watcher, GuestAddressWatcher):
            self._watcher.lost()

    def power_on(self, placing: str) -> None:
        """Boot it again. The engine serves the same targets; the virtual port is still closed."""
        self.kernel().power_on()
        self._place(placing)

    def _off(self, kernel: OwnKernel) -> None:
        kernel.power_cut()
        self.front.kill()
        self._undo.pop_all()  # all of it ended with its kernel

    def _stop_watching(self) -> None:
        """Let the watcher say how it ended, while its kernel is still there."""
        if isinstance(self._watcher, GuestAddressWatcher):
            with suppress(LabError):  # its evidence says so
                self._watcher.__exit__(None, None, None)
            self._watcher = None

    def versions(self) -> dict[str, str]:
        """See Array."""
        kernel = self.site.runner.run(["uname", "-r"]).output.strip()
        return {"target": f"{self.engine.name} {self.engine.version()}", "array kernel": kernel}

    def stop(self) -> None:
        """End all that was started here, in reverse order, or at once with the kernel."""
        if isinstance(self.engine, OwnKernel):
            self._stop_watching()
            self._off(self.engine)
        self._undo.close()
