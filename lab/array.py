"""The storage system of a running lab: ports, virtual port, target engine, controller."""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lab.commands import LocalRunner, Process
from lab.controller import addresses as placing
from lab.controller import config as controller_config
from lab.errors import LabError
from lab.remote import in_network_of
from lab.timeline import Event, Timeline
from lab.topology import ArraySpec, ArrayTopo
from lab.waiting import wait_for
from targets.base import Lun, TargetSpec
from targets.tgt import Tgt

SETTLE_SECONDS = 15.0
_RESTARTS = 20


@dataclass(frozen=True)
class Policy:
    """What the array is told to do.

    `mode`: whether a dead port's data address moves ("takeover") or its hosts only find another
    port at their next login ("redirect-only"). `redirect`: how a login at the virtual port is
    answered ("none": served there). `fixed`: host name to port name. `controller`: False switches
    the controller off. `parameters` of the target, such as DefaultTime2Wait.
    """

    mode: Literal["takeover", "redirect-only"] = "takeover"
    redirect: Literal["spread", "fixed", "none"] = "spread"
    fixed: dict[str, str] = field(default_factory=dict)
    hold_s: float = 5.0
    controller: bool = True
    parameters: dict[str, str] = field(default_factory=dict)


class Array:
    """An array in a network namespace of its own, served by tgt.

    Two tgtd with the same target and the same disks: one at the data ports, one, the front, at the
    virtual addresses, which redirects (or serves, with redirect "none"). The front's redirect
    follows what the controller chooses.
    """

    engine_name = "tgt"

    def __init__(
        self,
        topo: ArrayTopo,
        policy: Policy,
        runner: LocalRunner,
        pid: int,
        timeline: Timeline,
        *,
        work: Path,
        logs: Path,
        disks: Path,
    ) -> None:
        self.spec: ArraySpec = topo.storage
        self.policy, self.runner = policy, runner
        self._topo, self._pid, self._timeline = topo, pid, timeline
        self._work, self._logs, self._disks = work, logs, disks
        self.engine = Tgt(runner, work, logs, control_number=1)
        self.front = Tgt(runner, work, logs, control_number=0)
        self.target = TargetSpec(self.spec.iqn, self._luns())
        self._controller: Process | None = None
        self._told: list[Event] = []
        self._stopping = threading.Event()
        self._restarts = 0
        self._redirected: str | None = None
        self._undo = ExitStack()

    def _luns(self) -> tuple[Lun, ...]:
        # The identity belongs to the disk: same array and number, same identity, whoever serves it.
        return tuple(
            Lun(
                lun.number,
                self._disks / f"lun{lun.number}.img",
                lun.size_mib << 20,
                scsi_id=f"6{sum(self.spec.name.encode()):07x}{lun.number:08x}",
                serial=f"{self.spec.name}lun{lun.number}",
            )
            for lun in self.spec.luns
        )

    @property
    def virtual(self) -> str:
        """The virtual address, without prefix; the first, if there is one of each family."""
        return str(self.spec.virtual[0].ip)

    def address_of(self, port: str) -> str:
        """The data address at home on `port`."""
        return str(next(p for p in self.spec.ports if p.name == port).addresses[0].ip)

    def data_addresses(self) -> set[str]:
        """The addresses of all data ports."""
        return {str(a.ip) for p in self.spec.ports for a in p.addresses}

    def owners(self, address: str) -> set[str]:
        """The ports that have `address` at this moment, asked from the kernel."""
        names = {port.interface: port.name for port in self.spec.ports}
        shown = json.loads(self.runner.run(["ip", "-j", "addr", "show"]).output)
        return {
            names.get(link["ifname"], link["ifname"])
            for link in shown
            for info in link["addr_info"]
            if info["local"] == address
        }

    def port_of(self, address: str) -> str:
        """The port that has `address` now; LabError unless there is exactly one."""
        owners = self.owners(address)
        if len(owners) != 1:
            raise LabError(f"{self.spec.name}: {address} is on {sorted(owners) or 'no port'}")
        return owners.pop()

    def _config(self) -> dict[str, Any]:
        entries = [
            {"address": str(a), "home": self.spec.home.name, "virtual": True}
            for a in self.spec.virtual
        ]
        entries += [
            {"address": str(a), "home": p.name, "virtual": False}
            for p in self.spec.ports
            for a in p.addresses
        ]
        hosts = self._topo.initiators
        return {
            "array": self.spec.name,
            "ports": [{"name": p.name, "interface": p.interface} for p in self.spec.ports],
            "addresses": entries,
            "initiators": [str(a.ip) for h in hosts.values() for a in h.addresses],
            "mode": self.policy.mode,
            "redirect": self.policy.redirect,
            "fixed": {
                str(a.ip): port
                for name, port in self.policy.fixed.items()
                for a in hosts[name].addresses
            },
            "hold_s": self.policy.hold_s,
            "probe": None,
            "steering": None,
        }

    def start(self) -> None:
        """Place the addresses, start both tgtd and the controller; returns when it is settled."""
        self._undo.callback(self._stop_controller)
        path = self._work / "controller.json"
        path.write_text(json.dumps(self._config(), indent=1))
        config = controller_config.read(path)
        in_network_of(self._pid, lambda: _write_all(placing.sysctls(config)))
        links = ["lo", *(port.interface for port in self.spec.ports)]
        self.runner.run(["ip", "-batch", "-"], stdin="".join(f"link set {x} up\n" for x in links))
        for family in (4, 6):
            lines = placing.setup_lines(config, family)
            if lines:
                batch = "".join(f"{line}\n" for line in lines)
                self.runner.run(["ip", f"-{family}", "-batch", "-"], stdin=batch)
        for tgtd in (self.engine, self.front):
            self._undo.callback(tgtd.stop)
            tgtd.start()
            tgtd.create(self.target)
            for name, value in self.policy.parameters.items():
                tgtd.set_parameter(self.target.iqn, name, value)
        for address in sorted(self.data_addresses()):
            self.engine.expose(address)
        if self.policy.redirect != "none":
            first = next(iter(self.policy.fixed.values()), self.spec.home.name)
            self._steer(self.address_of(first))
        for virtual in self.spec.virtual:
            self.front.expose(str(virtual.ip))
        if self.policy.controller:
            self._start_controller(path)
            wait_for(
                f"the controller of {self.spec.name} to settle",
                lambda: list(self._told)[-5:],
                until=lambda told: any(e.get("what") == "settled" for e in told),
                seconds=SETTLE_SECONDS,
            )

    def _start_controller(self, path: Path) -> None:
        self._controller = self.runner.start(
            [sys.executable, "-m", "lab.controller", str(path)],
            log=self._logs / "controller.log",
            on_line=self._hear,
            env={"PYTHONPATH": str(Path(__file__).parent.parent)},
        )
        # Its supervisor: a controller that dies is started again and reads the kernel's state.
        threading.Thread(target=self._supervise, args=(self._controller, path), daemon=True).start()

    def _supervise(self, controller: Process, path: Path) -> None:
        while controller.poll() is None:
            if self._stopping.wait(0.05):
                return
        if self._stopping.is_set():
            return
        self._timeline.add(self.spec.name, "controller", what="died", status=controller.poll())
        self._restarts += 1
        if self._restarts <= _RESTARTS:
            self._start_controller(path)

    def _hear(self, line: str) -> None:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            return  # half a line: it was killed while it wrote
        self._timeline.extend([event])
        self._told.append(event)
        if event.get("what") == "redirect":
            self._follow(event)

    def _follow(self, event: Event) -> None:
        """Let the front redirect to where the controller wants hosts to go.

        tgtd has one answer for all hosts (its RedirectCallback, the way to answer each host for
        itself, ends 1.0.85 with a segmentation fault), so the choice for unknown hosts counts.
        """
        if (event.get("initiator") == "default" and self.policy.redirect == "spread") or (
            self.policy.redirect == "fixed" and event.get("initiator") in self._config()["fixed"]
        ):
            self._steer(event.get("address"))

    def _steer(self, address: str | None) -> None:
        if address != self._redirected:
            self.front.redirect(self.target.iqn, address)
            self._redirected = address

    def tell(self, **command: Any) -> None:
        """Give the controller an order, for example command="move-vip", port="p2"."""
        if self._controller is None:
            raise LabError(f"the controller of {self.spec.name} is switched off")
        self._controller.send(json.dumps(command))

    def kill_controller(self) -> None:
        """SIGKILL the controller; its supervisor starts it again."""
        if self._controller:
            self._controller.kill()

    def _stop_controller(self) -> None:
        self._stopping.set()
        if self._controller:
            self._controller.kill()

    def versions(self) -> dict[str, str]:
        """Versions of what the array is made of."""
        return {"target": f"tgt {self.engine.version()}", "array kernel": os.uname().release}

    def stop(self) -> None:
        """End all that start() began, last first."""
        self._undo.close()


def _write_all(values: dict[str, str]) -> None:
    for path, value in values.items():
        Path(path).write_text(str(value))
