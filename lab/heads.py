"""A dual-head array: kernels that share disks, a controller beside them, and a power switch."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lab.array import Array, Policy
from lab.commands import LocalRunner, Process, Runner
from lab.controller import addresses as placing
from lab.controller import config as controller_config
from lab.errors import BadInput, LabError
from lab.guest import KernelHost
from lab.guest_clock import align
from lab.head_topology import HeadSpec, HeadsTopo
from lab.observe import GuestAddressWatcher
from lab.site import GuestSite, Site
from lab.supervisor import Supervisor
from lab.timeline import Event, Timeline
from lab.waiting import wait_for
from targets import engines

HEARTBEAT = {"interval_ms": 20, "count": 8}
"""A head is lost after 160 ms of silence. See the longest silences of heads that lived (`silence`
events of the controller): a head that is taken for dead is cut off for nothing."""
NICE = -15
"""A head's kernel, of which four share two processors in a lab, must not wait to say it lives."""
_UDP_PORT = 5405
_READY_SECONDS = 15.0


class HeadSite(GuestSite):
    """The kernel of a head, whose disks other heads have as well; `log` is for what it says."""

    def __init__(self, kernel: KernelHost, disks: Path, log: Path) -> None:
        super().__init__(kernel, disks)
        self.log = log

    def plug(self, path: Path) -> str:
        """See GuestSite."""
        return self._kernel.plug(f"/luns/{path.relative_to(self._disks)}", shared=True)

    def end_kernel(self) -> None:
        """The quick half of power_cut(), which is to follow when there is time."""
        self._kernel.end()

    def wait_ready(self) -> None:
        """See GuestSite; its clock is set, for the order of events on two heads matters."""
        super().wait_ready()
        align(self.runner, self.log)

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
            "ports": [{"name": name, "interface": self.interface(name)}],
            "addresses": addresses,
            "listen": [str(self.head.address.ip), _UDP_PORT],
            "controller": [str(controller.ip), _UDP_PORT],
            "interval_ms": HEARTBEAT["interval_ms"],
        }

    def _place(self) -> None:
        """Bring the port up, with rules and routes for all addresses, and none of them."""
        config = controller_config.parse(self._config())
        batches = {"": [f"link set {name} up" for name in ("lo", *config.interfaces.values())]}
        for family in (4, 6):
            lines = placing.setup_lines(config, family)
            batches[f"-{family}"] = [one for one in lines if not one.startswith("addr ")]
        script = ["set -e"]
        script += [f"echo {value} > {path}" for path, value in placing.sysctls(config).items()]
        for option, lines in batches.items():
            if lines:
                script += [f"ip {option} -batch - <<'.'", *lines, "."]
        self.runner.run(["sh"], stdin="\n".join([*script, ""]))

    def _open(self) -> None:
        """Open the virtual port, with an answer for each host, and start the agent."""
        for host, portal in self._answers().items():
            self.front.steer(host, portal)
        self._undo.callback(self.front.stop)
        virtual = [str(address.ip) for address in self.spec.virtual]
        self.front.start(virtual, [self.target], self.engine.local_portal)
        path = self.site.put("agent.json", json.dumps(self._config()))
        self._told.clear()
        self._agent = self.site.start_module(
            "lab.controller.head_agent",
            str(path),
            log=self._logs / "agent.log",
            on_line=self._told.append,
        )
        self._undo.callback(self._agent.kill)
        wait_for(f"the agent of {self.head.name}", lambda: bool(self._told), seconds=_READY_SECONDS)

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
        """End its kernel at once: from here on it answers nothing and writes nothing."""
        with self._power:
            if not self.powered:
                return
            self.powered = False
            self._guest.end_kernel()
            if isinstance(self._watcher, GuestAddressWatcher):
                self._watcher.lost()

    def power_cut(self) -> None:
        """See Array."""
        self.cut()
        super().power_cut()

    def power_on(self) -> None:
        """See Array; returns when its agent runs."""
        super().power_cut()  # what is left of the last time, also where only its power was cut
        self.powered = True
        super().power_on()


class HeadArray(Array):
    """An array of heads. What it is asked for as a whole is answered by the head that is on."""

    def __init__(
        self,
        topo: HeadsTopo,
        policy: Policy,
        sites: Mapping[str, HeadSite],
        manager: Site,
        timeline: Timeline,
        *,
        logs: Path,
        disks: Path,
    ) -> None:
        first = next(iter(sites.values()))
        super().__init__(topo, policy, first, "lio", timeline, logs=logs, disks=disks)
        self.heads = {
            name: Head(
                topo.heads[name], topo, policy, site, timeline, logs=logs / name, disks=disks
            )
            for name, site in sites.items()
        }
        self._heads, self._manager = topo, manager
        self._whole = next(iter(self.heads.values()))
        self.engine, self.front = self._whole.engine, self._whole.front

    def _config(self) -> dict[str, Any]:
        address = self._heads.controller_address
        assert address is not None
        home = self.spec.home.name
        homes = {str(a.ip): home for a in self.spec.virtual}
        homes |= {str(a.ip): p.name for p in self.spec.ports for a in p.addresses}
        return {
            "array": self.spec.name,
            "heads": {n: [str(h.address.ip), _UDP_PORT] for n, h in self._heads.heads.items()},
            "homes": homes,
            "listen": [str(address.ip), _UDP_PORT],
            "fencing": self.policy.fencing,
            **HEARTBEAT,
        }

    def start(self) -> None:
        """See Array: all heads at once, then the controller."""
        address, interface = self._heads.controller_address, self._heads.controller_interface
        lines = [
            "link set lo up",
            f"link set {interface} up",
            f"addr add {address} dev {interface}",
        ]
        self._manager.runner.run(["ip", "-batch", "-"], stdin="\n".join(lines))
        for head in self.heads.values():
            self._undo.callback(head.stop)
        with ThreadPoolExecutor() as pool:
            for started in [pool.submit(head.start) for head in self.heads.values()]:
                started.result()
        self._controller = Supervisor(
            self._manager, self._config(), self._timeline, self._logs, self._follow,
            module="lab.controller.heads",
        )  # fmt: skip
        self._undo.callback(self._controller.stop)
        self._controller.start()

    def _follow(self, event: Event) -> None:
        """The power distribution unit: cuts what the controller asks for, and says so."""
        if event.get("what") != "fence":
            return
        began, head = time.time(), event["head"]
        self.heads[head].cut()
        took = round((time.time() - began) * 1000, 2)
        self._timeline.add(head, "power", what="fenced", took_ms=took)
        self.tell(command="fenced", head=head)

    @property
    def runner(self) -> Runner:
        """Where the commands of a head that is on run."""
        return self._on().runner

    def _on(self) -> Head:
        found = [head for head in self.heads.values() if head.powered]
        if not found:
            raise LabError(f"{self.spec.name}: all heads are off")
        return found[0]

    def owners(self, address: str) -> set[str]:
        """See Array: asked from the kernel of every head that is on."""
        on = [head for head in self.heads.values() if head.powered]
        return {owner for head in on for owner in head.owners(address)}

    def wait_settled(self, since: float, seconds: float = _READY_SECONDS) -> None:
        """Wait until the controller has said, after `since` (Unix seconds), that all addresses are
        where they are to be."""
        wait_for(
            f"the controller of {self.spec.name} to settle",
            lambda: [e["what"] for e in self._timeline.events("controller") if e["t"] > since][-5:],
            until=lambda told: "settled" in told,
            seconds=seconds,
        )

    def power_cut(self) -> None:
        """The power of all heads."""
        for head in self.heads.values():
            head.power_cut()

    def power_on(self) -> None:
        """See Array."""
        since = time.time()
        for head in self.heads.values():
            head.power_on()
        self.wait_settled(since)

    def versions(self) -> dict[str, str]:
        """See Array."""
        return self._on().versions()

    def stop(self) -> None:
        """See Array."""
        self._undo.close()


def make(
    topo: HeadsTopo,
    policy: Policy,
    target: str,
    sites: Mapping[str, HeadSite],
    manager_pid: int,
    work: Path,
    timeline: Timeline,
    *,
    logs: Path,
    disks: Path,
) -> HeadArray:
    """The array of `topo`, its heads at `sites`, its controller in the namespace of a process.

    Raises BadInput for an engine that no kernel of its own can have.
    """
    if not engines.find(target).own_kernel:
        raise BadInput(f"target {target}: an array with heads needs --target lio")
    manager = Site(LocalRunner(topo.storage.name, manager_pid), work, manager_pid)
    return HeadArray(topo, policy, sites, manager, timeline, logs=logs, disks=disks)


def addresses_of(spec: HeadSpec) -> dict[str, list[str]]:
    """What a head's kernel has on its interfaces from its boot on."""
    return {spec.port.interface: [], spec.management: [str(spec.address)]}
