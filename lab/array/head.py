"""One head of a dual-head array: a kernel that serves what it is given addresses for."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from lab.array.array import Array, Policy
from lab.array.site import GuestSite
from lab.commands import Process
from lab.controller import config as controller_config
from lab.guest.clock import align
from lab.guest.kernel_host import KernelHost
from lab.observe import GuestAddressWatcher
from lab.timeline import Timeline
from lab.topology.heads import HeadSpec, HeadsTopo
from lab.waiting import wait_for

HEARTBEAT = {"interval_ms": 20, "count": 50}
"""A head is lost after a second of silence, for one that lives would be cut off for nothing: of
those, 400 ms were seen on two busy processors. One without power is noticed by its dark link."""
NICE = -15
"""A head's kernel, of which four share two processors in a lab, must not wait to say it lives."""
UDP_PORT = 5405
READY_SECONDS = 15.0


class HeadSite(GuestSite):
    """The kernel of a head, whose disks other heads have as well; `log` is for what it says."""

    def __init__(self, kernel: KernelHost, disks: Path, timeline: Timeline, log: Path) -> None:
        super().__init__(kernel, disks)
        self._timeline, self._log = timeline, log

    def plug(self, path: Path) -> str:
        """See GuestSite."""
        return self._kernel.plug(f"/luns/{path.relative_to(self._disks)}", shared=True)

    def end_kernel(self) -> None:
        """The quick half of power_cut(), which is to follow when there is time."""
        self._kernel.end()

    def darken(self) -> None:
        """Let its cables go dark."""
        self._kernel.darken()

    def wait_ready(self) -> None:
        """See GuestSite; its clock is set, for the order of events on two heads matters."""
        super().wait_ready()
        clock = align(self.runner, self._log)
        within = round(clock.within_s * 1000, 3)
        self._timeline.add(self._kernel.name, "clock", within_ms=within)

    def power_on(self) -> None:
        """See GuestSite."""
        self._kernel.power_on()
        self.wait_ready()


class Head(Array):
    """One head: its engine and its virtual port serve all addresses of the array, those that it
    has at the time. An agent gives it addresses, and takes them, as the controller orders."""

    def __init__(
        self,
        spec: HeadSpec,
        topo: HeadsTopo,
        policy: Policy,
        site: HeadSite,
        timeline: Timeline,
        *,
        logs: Path,
        disks: Path,
    ) -> None:
        logs.mkdir()
        super().__init__(topo, policy, site, "lio", timeline, logs=logs, disks=disks)
        self.head, self._heads = spec, topo
        self._guest = site
        self._agent: Process | None = None
        self._told: list[str] = []
        self._power = threading.Lock()
        self.powered = True

    def _config(self) -> dict[str, Any]:
        """What its agent must know: all addresses of the array, and its one port."""
        name = self.head.name
        controller = self._heads.controller_address
        assert controller is not None
        addresses = [
            {"address": str(a), "home": name, "virtual": a in self.spec.virtual}
            for a in (*self.spec.virtual, *(a for p in self.spec.ports for a in p.addresses))
        ]
        return {
            "array": self.spec.name,
            "head": name,
            "heads": [*self._heads.heads],
            "initiators": [
                str(a.ip) for host in self._heads.initiators.values() for a in host.addresses
            ],
            "ports": [{"name": name, "interface": self.interface(name)}],
            "addresses": addresses,
            "listen": [str(self.head.address.ip), UDP_PORT],
            "controller": [str(controller.ip), UDP_PORT],
            "interval_ms": HEARTBEAT["interval_ms"],
        }

    def _address_lines(self, config: controller_config.Config, family: int) -> list[str]:
        """Rules and routes for all addresses, and none of them: these come by order."""
        lines = super()._address_lines(config, family)
        return [one for one in lines if not one.startswith("addr ")]

    def _open(self) -> None:
        """Open the virtual port, with an answer for each host, and start the agent."""
        for host, portal in self._answers().items():
            self.front.steer(host, portal)
        self._undo.callback(self.front.stop)
        virtual = [str(address.ip) for address in self.spec.virtual]
        self.front.start(virtual, self.targets, self.engine.local_portal)
        path = self.site.put("agent.json", json.dumps(self._config()))
        self._told.clear()
        self._agent = self.site.start_module(
            "lab.controller.head_agent",
            str(path),
            log=self._logs / "agent.log",
            on_line=self._told.append,
        )
        self._undo.callback(self._agent.kill)
        wait_for(f"the agent of {self.head.name}", lambda: bool(self._told), seconds=READY_SECONDS)

    def _answers(self) -> dict[str | None, str | None]:
        """Host address (None: any other) to data address (None: served at the virtual port).

        Data addresses never die, they move; so the answers stay the same.
        """
        if self.policy.redirect == "none":
            return {None: None}
        data = [str(p.addresses[0].ip) for p in self.spec.ports]
        found: dict[str | None, str | None] = {None: data[0]}
        for at, host in enumerate(self._heads.initiators.values()):
            port = self.policy.fixed.get(host.name)
            portal = self.address_of(port) if port else data[at % len(data)]
            served = host.name in self.policy.serve
            found |= {str(a.ip): None if served else portal for a in host.addresses}
        return found

    def cut(self) -> None:
        """End its kernel at once: from here on it answers nothing and writes nothing. Its cables
        are to be darkened when there is time."""
        with self._power:
            if not self.powered:
                return
            self.powered = False
            self._guest.end_kernel()
            self._timeline.add(self.head.name, "power", what="off")
            if isinstance(self._watcher, GuestAddressWatcher):
                self._watcher.lost()

    def darken(self) -> None:
        """Let its cables go dark: its power has been cut."""
        self._guest.darken()

    def power_cut(self) -> None:
        """See Array."""
        self.cut()
        super().power_cut()

    def power_on(self) -> None:
        """See Array; returns when its agent runs."""
        super().power_cut()  # what is left of the last time, also where only its power was cut
        self.powered = True
        super().power_on()
