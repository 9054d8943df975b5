"""An array in one kernel: all its ports, and its controller."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab.array.array import Array
from lab.array.luns import targets_of
from lab.array.orders import StandingOrders
from lab.array.placing import addresses_of, placing_script
from lab.array.policy import Policy
from lab.array.port_relay import PortRelay
from lab.array.site import Site
from lab.array.stack import TargetStack
from lab.array.supervisor import Supervisor
from lab.array.watchdog import Watchdog
from lab.commands import Runner
from lab.controller import config as controller_config
from lab.errors import BadInput, LabError
from lab.timeline import Event, Timeline
from lab.topology.topology import ArrayTopo
from targets.base import OwnKernel


class SingleArray(Array):
    """An array at `site`, served by the engine named `target`.

    The controller chooses what the virtual port answers. Both are restarted when they die, the
    controller with its standing orders.
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
        self.spec = topo.storage
        self.targets = targets_of(self.spec, policy.access, disks)
        self._topo, self._policy, self._site = topo, policy, site
        self._timeline, self._logs = timeline, logs
        self._stack = TargetStack(
            self.spec, policy, site, target, self.targets, self.spec.ports, timeline, logs
        )
        self.engine = self._stack.engine
        self._orders = StandingOrders()
        self._controller: Supervisor | None = None
        self._watchdog: Watchdog | None = None
        self._relay: PortRelay | None = None
        self._undo = ExitStack()

    @property
    def runner(self) -> Runner:
        """See Array."""
        return self._site.runner

    def interface(self, port: str) -> str:
        """See Array."""
        return self._stack.interface(port)

    def owners(self, address: str) -> set[str]:
        """See Array."""
        return self._stack.owners(address)

    def _config(self) -> dict[str, Any]:
        """The configuration of the controller."""
        hosts, policy, steering = self._topo.initiators, self._policy, self._stack.front.steering
        virtual = [str(address) for address in self.spec.virtual]
        return {
            "array": self.spec.name,
            "ports": [
                {"name": p.name, "interface": self.interface(p.name)} for p in self.spec.ports
            ],
            "addresses": [
                {"address": str(a), "home": home, "virtual": str(a) in virtual}
                for a, home in addresses_of(self.spec)
            ],
            "initiators": [str(a.ip) for h in hosts.values() for a in h.addresses],
            "mode": policy.mode,
            "redirect": policy.redirect,
            "fixed": self._fixed(),
            "serve": [str(a.ip) for name in policy.serve for a in hosts[name].addresses],
            "hold_s": policy.hold_s,
            "probe": asdict(policy.probe) if policy.probe else None,
            "steering": str(steering) if steering else None,
            **self._orders.config(),
        }

    def _fixed(self) -> dict[str, str]:
        """Host address to the port that the policy fixes for it."""
        hosts = self._topo.initiators
        return {
            str(a.ip): port
            for name, port in self._policy.fixed.items()
            for a in hosts[name].addresses
        }

    def _placing(self) -> str:
        config = controller_config.parse(self._config())
        return placing_script(config, quick=self._policy.controller)

    def start(self) -> None:
        """See Array."""
        self._undo.callback(self._stack.stop)
        self._stack.start(self._placing())
        self._open()

    def _open(self) -> None:
        """Open the virtual port, then start the controller."""
        if self._policy.relay:
            backend = self.engine.local_portal
            self._relay = PortRelay(self._site, self.spec, backend, self._logs, self._timeline)
            self._undo.callback(self._relay.stop)
        first = None
        if self._policy.redirect != "none":
            first = self.address_of(next(iter(self._policy.fixed.values()), self.spec.home.name))
        # It ends before the relay, or hosts that lose their connections there would log in again.
        self._undo.callback(self._stack.front.stop)
        self._stack.open({None: first})
        self._watchdog = Watchdog(self._stack.front, self._stack.front_said)
        self._undo.callback(self._watchdog.let_go)
        self._watchdog.start()
        if self._policy.controller:
            self._controller = Supervisor(
                self._site, self.spec.name, self._config, self._timeline, self._logs, self._follow
            )
            self._undo.callback(self._controller.stop)
            self._controller.start()

    def _follow(self, event: Event) -> None:
        """Pass the controller's choices to the relay, and to a front that it cannot steer itself.

        Such a front has one answer for all hosts, so it gets the choice for unknown hosts.
        """
        self._orders.hear(event)
        if self._relay and event.get("what") == "ask-to-move":
            self._relay.obey(event)
        front, redirect = self._stack.front, self._policy.redirect
        if front.steering or event.get("what") != "redirect":
            return
        initiator = event.get("initiator")
        if (initiator == "default" and redirect == "spread") or (
            initiator in self._fixed() and redirect == "fixed"
        ):
            front.steer(None, event.get("address"))

    def send_to(self, host: str, portal: str, *, permanent: bool = False) -> None:
        """See Array."""
        self._stack.send_to(host, portal, permanent=permanent)

    @property
    def relay(self) -> PortRelay:
        """See Array."""
        if self._relay is None:
            raise LabError(f"{self.spec.name} has no relay; its policy must say so")
        return self._relay

    def tell(self, **command: Any) -> None:
        """See Array."""
        self._supervisor().tell(**command)

    def kill_controller(self, *, next_dies_at: int = 0) -> None:
        """See Array."""
        self._supervisor().kill(next_dies_at=next_dies_at)

    def kill_front(self) -> None:
        """See Array."""
        if self._watchdog is None:
            raise BadInput(f"{self.spec.name}: its virtual port is not open")
        self._watchdog.kill()

    def _supervisor(self) -> Supervisor:
        if self._controller is None:
            raise LabError(f"the controller of {self.spec.name} is switched off")
        return self._controller

    def power_cut(self) -> None:
        """See Array."""
        self._stack.kernel()
        self._let_go()
        self._stack.power_cut()

    def power_on(self) -> None:
        """See Array."""
        self._stack.power_on(self._placing())
        self._open()

    def _let_go(self) -> None:
        """Restart nothing: what runs in the array's own kernel ends with it."""
        if self._controller:
            self._controller.let_go()
        if self._watchdog:
            self._watchdog.let_go()
        self._undo.pop_all()

    def versions(self) -> dict[str, str]:
        """See Array."""
        return self._stack.versions()

    def stop(self) -> None:
        """See Array."""
        if isinstance(self.engine, OwnKernel):
            self._let_go()
            self._stack.stop()
        self._undo.close()
