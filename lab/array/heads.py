"""A dual-head array: kernels that share disks, a controller beside them, and a power switch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lab.array.array import Array, Policy
from lab.array.head import HEARTBEAT, READY_SECONDS, UDP_PORT, Head, HeadSite
from lab.array.site import Site
from lab.array.supervisor import Supervisor
from lab.commands import LocalRunner, Runner
from lab.errors import BadInput, LabError
from lab.mininet_classes import Host
from lab.timeline import Event, Timeline
from lab.topology.heads import HeadSpec, HeadsTopo
from lab.waiting import wait_for
from targets import engines
from targets.base import make_sparse


class Manager(Host):
    """The node of the controller: its management cables end in one bridge.

    That is there first, so that no cable has one interface number at both ends: the kernel would
    tell of its carrier up to a second later (as in lab.run.lab).
    """

    def __init__(self, name: str, **params: object) -> None:
        super().__init__(name, **params)
        LocalRunner(name, self.pid).run(["ip", "link", "add", "admin", "type", "bridge"])


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
            "heads": {n: [str(h.address.ip), UDP_PORT] for n, h in self._heads.heads.items()},
            "links": {n: h.link for n, h in self._heads.heads.items()},
            "homes": homes,
            "listen": [str(address.ip), UDP_PORT],
            "fencing": self.policy.fencing,
            **HEARTBEAT,
        }

    def start(self) -> None:
        """See Array: all heads at once, then the controller."""
        address = self._heads.controller_address
        # One subnet for all the cables.
        lines = [f"link set {up} up" for up in ("lo", "admin")]
        for spec in self._heads.heads.values():
            lines += [f"link set {spec.link} master admin", f"link set {spec.link} up"]
        lines += [f"addr add {address} dev admin"]
        self.manager.run(["ip", "-batch", "-"], stdin="\n".join(lines))
        for lun in (lun for target in self.targets for lun in target.luns):
            make_sparse(lun)  # once, or each head would want to be the first
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

    @property
    def manager(self) -> Runner:
        """Where the commands of the controller's node run."""
        return self._manager.runner

    def _follow(self, event: Event) -> None:
        """The power distribution unit: cuts what the controller asks for, and says so."""
        if event.get("what") != "fence":
            return
        began, head = time.time(), event["head"]
        self.heads[head].cut()
        took = round((time.time() - began) * 1000, 2)
        self._timeline.add(head, "power", what="fenced", took_ms=took)
        self.tell(command="fenced", head=head)
        self.heads[head].darken()

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

    def wait_settled(self, since: float, seconds: float = READY_SECONDS) -> None:
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
