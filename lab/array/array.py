"""The storage system of a running lab: ports, virtual port, target engine, controller."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab.array.keeper import Keeper
from lab.array.policy import Policy as Policy
from lab.array.port_relay import PortRelay
from lab.array.site import Site
from lab.array.supervisor import Supervisor
from lab.commands import Runner
from lab.controller import addresses as placing
from lab.controller import config as controller_config
from lab.errors import BadInput, LabError
from lab.observe import GuestAddressWatcher
from lab.timeline import Event, Timeline
from lab.topology.topology import ArraySpec, ArrayTopo, HostSpec, initiator_name
from targets import engines
from targets.base import LogicalUnit, OwnKernel, TargetSpec
from targets.front.base import Front
from targets.front.steered import SteeredFront


class Array:
    """An array at `site`, served by the engine of the name `target`.

    The engine serves the data ports. At the virtual addresses is the front, which redirects or
    serves; it follows what the controller chooses. What is started has its end registered at once.
    """

    def __init__(
        self,
        topo: ArrayTopo,
        policy: Policy,
        site: Site,
        target: str,
        timeline: Timeline,
        *,
        logs: Path,
        disks: Path,
    ) -> None:
        self.spec: ArraySpec = topo.storage
        self.policy, self.site = policy, site
        self._topo, self._timeline = topo, timeline
        self._logs, self._disks = logs, disks
        kind = engines.find(target)
        self.engine = kind.make(site, logs, policy.store)
        self.front: Front
        # A host that is asked to move needs an answer of its own at its next login.
        uniform = policy.front == "tgtd" and not policy.serve and not policy.relay
        # So does each family: a host of the other one cannot go where the answer says.
        uniform &= len({address.version for address in self.spec.virtual}) == 1
        if kind.front and uniform:
            self.front = kind.front(site, logs, policy.parameters)
        else:
            self.front = SteeredFront(site, logs, on_event=self._front_said)
        access = policy.access
        self._discovery = access.array.discovery
        if self._discovery:
            self.front.protect_discovery(self._discovery)
        self.targets = [
            TargetSpec(
                target.iqn,
                self._luns(number),
                access.array.of_target,
                tuple(initiator_name(host) for host in access.allowed),
            )
            for number, target in enumerate(self.spec.targets)
        ]
        self._controller: Supervisor | None = None
        self._keeper: Keeper | None = None
        self._relay: PortRelay | None = None
        self._watcher: object = None
        self._undo = ExitStack()

    def _luns(self, at: int) -> tuple[LogicalUnit, ...]:
        """The disks of target number `at`."""
        # The identity belongs to the disk: same target and number, same identity, wherever served.
        target = self.spec.targets[at]
        return tuple(
            LogicalUnit(
                lun.number,
                self._disks / f"{target.name}-lun{lun.number}.img",
                lun.size_mib << 20,
                scsi_id=f"6{sum(self.spec.name.encode()):07x}{at:02x}{lun.number:06x}",
                serial=f"{target.name}lun{lun.number}",
            )
            for lun in target.luns
        )

    @property
    def virtual(self) -> str:
        """The virtual address, without prefix; the first, if there is one of each family."""
        return str(self.spec.virtual[0].ip)

    def virtual_for(self, host: HostSpec) -> str:
        """The virtual address in a subnet of `host`; the first, if it has several."""
        nets = {address.network for address in host.addresses}
        return next(str(a.ip) for a in self.spec.virtual if a.network in nets)

    def address_of(self, port: str, family: int | None = None) -> str:
        """The data address at home on `port`: the first, or the first of `family` (4 or 6), which
        BadInput says that it lacks."""
        spec = next(p for p in self.spec.ports if p.name == port)
        found = [str(a.ip) for a in spec.addresses if family in (None, a.version)]
        if not found:
            raise BadInput(f"{spec.place}: port {port} needs an IPv{family} address as well")
        return found[0]

    def data_addresses(self) -> set[str]:
        """The addresses of all data ports."""
        return {str(a.ip) for p in self.spec.ports for a in p.addresses}

    @property
    def runner(self) -> Runner:
        """Where the array's commands run; LabError while it is powered off."""
        return self.site.runner

    def interface(self, port: str) -> str:
        """The interface of `port`, as the array's kernel calls it."""
        return self.site.interface(next(p for p in self.spec.ports if p.name == port).interface)

    def _ports_by_interface(self) -> dict[str, str]:
        return {self.interface(port.name): port.name for port in self.spec.ports}

    def owners(self, address: str) -> set[str]:
        """The ports that have `address` at this moment, asked from the kernel."""
        names = self._ports_by_interface()
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
            "ports": [
                {"name": p.name, "interface": self.interface(p.name)} for p in self.spec.ports
            ],
            "addresses": entries,
            "initiators": [str(a.ip) for h in hosts.values() for a in h.addresses],
            "mode": self.policy.mode,
            "redirect": self.policy.redirect,
            "fixed": {
                str(a.ip): port
                for name, port in self.policy.fixed.items()
                for a in hosts[name].addresses
            },
            "serve": [str(a.ip) for name in self.policy.serve for a in hosts[name].addresses],
            "hold_s": self.policy.hold_s,
            "probe": asdict(self.policy.probe) if self.policy.probe else None,
            "steering": str(self.front.steering) if self.front.steering else None,
        }

    def start(self) -> None:
        """Start all that the array is made of; returns when the controller has settled it."""
        self.site.wait_ready()
        self._watch()
        self._place()
        self._undo.callback(self.engine.stop)
        self.engine.start()
        if self._discovery:
            self.engine.protect_discovery(self._discovery)
        for target in self.targets:
            self.engine.create(target)
            for name, value in self.policy.parameters.items():
                self.engine.set_parameter(target.iqn, name, value)
        if not self.policy.relay:
            for address in sorted(self.data_addresses()):
                self.engine.expose(address)
        self._open()

    def _watch(self) -> None:
        watcher = self.site.watch(self._timeline, self._ports_by_interface(), self._logs)
        self._watcher = self._undo.enter_context(watcher)

    def _place(self) -> None:
        """Bring the ports up and every address to its home port, as the controller would."""
        config = controller_config.parse(self._config())
        links = ["lo", *config.interfaces.values()]
        batches = {"": [f"link set {name} up" for name in links]}
        batches |= {f"-{f}": self._address_lines(config, f) for f in (4, 6)}
        # One script, for each command that is started in a guest costs it 50 ms.
        script = ["set -e"]
        script += [f"echo {value} > {path}" for path, value in placing.sysctls(config).items()]
        if self.policy.controller:
            script.append(placing.quick_rto())
        for option, lines in batches.items():
            if lines:
                script += [f"ip {option} -batch - <<'.'", *lines, "."]
        self.runner.run(["sh"], stdin="\n".join([*script, ""]))

    def _address_lines(self, config: controller_config.Config, family: int) -> list[str]:
        return placing.setup_lines(config, family)

    def _open(self) -> None:
        """Open the virtual port, and let the controller take over."""
        if self.policy.relay:
            backend = self.engine.local_portal
            self._relay = PortRelay(self.site, self.spec, backend, self._logs, self._timeline)
            self._undo.callback(self._relay.stop)
        first = None
        if self.policy.redirect != "none":
            first = self.address_of(next(iter(self.policy.fixed.values()), self.spec.home.name))
        self.front.steer(None, first)
        self._undo.callback(self.front.stop)
        virtual = [str(address.ip) for address in self.spec.virtual]
        self.front.start(virtual, self.targets, self.engine.local_portal)
        self._keeper = Keeper(self.front, self._front_said)
        self._undo.callback(self._keeper.let_go)
        self._keeper.start()
        if self.policy.controller:
            self._controller = Supervisor(
                self.site, self._config(), self._timeline, self._logs, self._follow
            )
            self._undo.callback(self._controller.stop)
            self._controller.start()

    def _follow(self, event: Event) -> None:
        """Pass on to a front that the controller cannot reach where it wants hosts to go.

        That front has one answer for all hosts, so the choice for unknown hosts counts.
        """
        if self._relay and event.get("what") == "ask-to-move":
            self._relay.obey(event)
        if self.front.steering or event.get("what") != "redirect":
            return
        initiator, policy = event.get("initiator"), self.policy.redirect
        if (initiator == "default" and policy == "spread") or (
            initiator in self._config()["fixed"] and policy == "fixed"
        ):
            self.front.steer(None, event.get("address"))

    def _front_said(self, event: dict[str, Any]) -> None:
        self._timeline.add(self.spec.name, "virtual-port", **event)

    def send_to(self, host: str, portal: str, *, permanent: bool = False) -> None:
        """Send the host at address `host` to `portal` at its next login, whatever the controller
        thinks of it; LabError if the virtual port has one answer for all hosts."""
        if self.front.steering is None:
            raise LabError(f"{self.spec.name}: the virtual port has one answer for all hosts")
        self.front.steer(host, portal, permanent=permanent)

    @property
    def relay(self) -> PortRelay:
        """The relay at the data ports; LabError if the policy has none."""
        if self._relay is None:
            raise LabError(f"{self.spec.name} has no relay; its policy must say so")
        return self._relay

    def tell(self, **command: Any) -> None:
        """Give the controller an order, for example command="move-vip", port="p2"."""
        self._supervisor().tell(**command)

    def kill_controller(self, *, next_dies_at: int = 0) -> None:
        """SIGKILL the controller; its supervisor starts it again.

        `next_dies_at`: the new one dies in the midst of its work, when it has given ip that many
        lines since its start; the one after that does not.
        """
        self._supervisor().kill(next_dies_at=next_dies_at)

    def kill_front(self) -> None:
        """SIGKILL what answers at the virtual port; it is started again.

        BadInput where nothing would do that: a head's goes with its head.
        """
        if self._keeper is None:
            raise BadInput(f"{self.spec.name}: nobody would start its virtual port again")
        self._keeper.kill()

    def _supervisor(self) -> Supervisor:
        if self._controller is None:
            raise LabError(f"the controller of {self.spec.name} is switched off")
        return self._controller

    def power_cut(self) -> None:
        """End the array's kernel at once; BadInput for an engine that has none of its own."""
        if not isinstance(self.engine, OwnKernel):
            raise BadInput(f"{self.spec.name}: {self.engine.name} has no kernel of its own")
        self._off(self.engine)
        if isinstance(self._watcher, GuestAddressWatcher):
            self._watcher.lost()

    def power_on(self) -> None:
        """Boot it again; returns when it serves the same targets and its controller has settled."""
        if not isinstance(self.engine, OwnKernel):
            raise BadInput(f"{self.spec.name}: {self.engine.name} has no kernel of its own")
        self.engine.power_on()
        self._watch()
        self._place()
        self._open()

    def _off(self, engine: OwnKernel) -> None:
        if self._controller:
            self._controller.let_go()
        if self._keeper:
            self._keeper.let_go()
        engine.power_cut()
        self.front.kill()
        self._undo.pop_all()  # all that was to be ended has ended with its kernel

    def versions(self) -> dict[str, str]:
        """Versions of what the array is made of."""
        kernel = self.runner.run(["uname", "-r"]).output.strip()
        return {"target": f"{self.engine.name} {self.engine.version()}", "array kernel": kernel}

    def stop(self) -> None:
        """End all that start() began: last first, or at once with the array's own kernel."""
        if isinstance(self.engine, OwnKernel):
            self._off(self.engine)
        self._undo.close()
