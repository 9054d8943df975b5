"""A dual-head array: kernels that share disks, a controller beside them, and a power switch."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NoReturn

from lab.array.array import Array
from lab.array.head import HEARTBEAT, LEASE, READY_SECONDS, UDP_PORT, Head
from lab.array.head_site import HeadSite
from lab.array.luns import targets_of
from lab.array.placing import addresses_of
from lab.array.policy import Policy
from lab.array.site import Site
from lab.array.supervisor import Supervisor
from lab.commands import Runner
from lab.controller.sealed import KEY_BYTES
from lab.errors import BadInput, LabError, unknown
from lab.timeline import Event, Timeline
from lab.topology.heads import HeadsTopo
from lab.waiting import wait_for
from targets import engines
from targets.base import make_sparse

ABILITY = "heads"
"""The ability (targets.engines.ABILITIES) that the engine of the heads needs."""


class HeadArray(Array):
    """Heads at `sites`, each with the engine named `target`, and their controller at `manager`.

    A head that is on answers for the array as a whole.
    """

    def __init__(
        self,
        topo: HeadsTopo,
        policy: Policy,
        target: str,
        sites: Mapping[str, HeadSite],
        manager: Site,
        timeline: Timeline,
        *,
        logs: Path,
        disks: Path,
    ) -> None:
        self.spec, self._topo, self._policy = topo.storage, topo, policy
        self.targets = targets_of(self.spec, policy.access, disks)
        self._manager, self._timeline, self._logs = manager, timeline, logs
        answers, key = self._answers(), secrets.token_bytes(KEY_BYTES)
        self.switch_works = True
        """Whether the power switch hears the controller; see lab.faults.heads."""
        self.heads = {
            name: Head(
                topo.heads[name], topo, policy, site, target, self.targets, answers, key, timeline,
                logs / name,
            )
            for name, site in sites.items()
        }  # fmt: skip
        self.engine = next(iter(self.heads.values())).stack.engine
        self._controller = Supervisor(
            manager, self.spec.name, self._config, timeline, logs, self._follow,
            module="lab.controller.heads", key=key,
        )  # fmt: skip
        self._undo = ExitStack()

    def _config(self) -> dict[str, Any]:
        """The configuration of the controller. It asks the heads where the addresses are."""
        address = self._topo.controller_address
        assert address is not None
        return {
            "array": self.spec.name,
            "heads": {n: [str(h.address.ip), UDP_PORT] for n, h in self._topo.heads.items()},
            "links": {n: h.link for n, h in self._topo.heads.items()},
            "homes": {str(a.ip): home for a, home in addresses_of(self.spec)},
            "listen": [str(address.ip), UDP_PORT],
            "fencing": self._policy.fencing,
            **HEARTBEAT,
            **LEASE,
        }

    def _answers(self) -> dict[str | None, str | None]:
        """Where every head redirects each host, see TargetStack.open()."""
        policy = self._policy
        if policy.redirect == "none":
            return {None: None}
        data = [str(p.addresses[0].ip) for p in self.spec.ports]
        found: dict[str | None, str | None] = {None: data[0]}
        for at, host in enumerate(self._topo.initiators.values()):
            port = policy.fixed.get(host.name)
            portal = self.address_of(port) if port else data[at % len(data)]
            served = host.name in policy.serve
            found |= {str(a.ip): None if served else portal for a in host.addresses}
        return found

    def start(self) -> None:
        """See Array: all heads at once, then the controller."""
        address = self._topo.controller_address
        # One subnet for all the cables.
        lines = [f"link set {up} up" for up in ("lo", "admin")]
        for spec in self._topo.heads.values():
            lines += [f"link set {spec.link} master admin", f"link set {spec.link} up"]
        lines += [f"addr add {address} dev admin"]
        self.manager.run(["ip", "-batch", "-"], stdin="\n".join(lines))
        for lun in (lun for target in self.targets for lun in target.luns):
            make_sparse(lun)  # once, before the heads start: each would create it
        for head in self.heads.values():
            self._undo.callback(head.stop)
        with ThreadPoolExecutor() as pool:
            for started in [pool.submit(head.start) for head in self.heads.values()]:
                started.result()
        self._undo.callback(self._controller.stop)
        self._controller.start()

    @property
    def manager(self) -> Runner:
        """The runner for commands on the controller's node."""
        return self._manager.runner

    def _follow(self, event: Event) -> None:
        """The power distribution unit: cuts the head that the controller names, and confirms it."""
        if event.get("what") != "fence" or not self.switch_works:
            return
        began, head = time.time(), event["head"]
        boot = self.heads[head].cut(event["boot"])
        took = round((time.time() - began) * 1000, 2)
        self._timeline.add(head, "power", what="fenced", boot=boot, took_ms=took)
        with suppress(LabError):  # the controller died; the next one asks again
            self.tell(command="fenced", head=head, boot=boot)
        if not self.heads[head].powered:  # else it has booted since
            self.heads[head].darken()

    def _on(self) -> list[Head]:
        found = [head for head in self.heads.values() if head.powered]
        if not found:
            raise LabError(f"{self.spec.name}: all heads are off")
        return found

    @property
    def runner(self) -> Runner:
        """The runner for commands on a head that is on."""
        return self._on()[0].site.runner

    def interface(self, port: str) -> str:
        """See Array: as the kernel of the port's head calls it."""
        if port not in self.heads:
            raise unknown("port", port, self.heads)
        return self.heads[port].stack.interface(port)

    def owners(self, address: str) -> set[str]:
        """See Array: read from the kernel of every head that is on."""
        on = [head for head in self.heads.values() if head.powered]
        return {owner for head in on for owner in head.stack.owners(address)}

    def send_to(self, host: str, portal: str, *, permanent: bool = False) -> None:
        """See Array: every head that is on does it."""
        for head in self._on():
            head.stack.send_to(host, portal, permanent=permanent)

    @property
    def relay(self) -> NoReturn:
        """See Array: there is none."""
        raise LabError(f"{self.spec.name}: an array with heads has no relay")

    def tell(self, **command: Any) -> None:
        """See Array, for example command="move", head="a1b"."""
        self._controller.tell(**command)

    def kill_controller(self, *, next_dies_at: int = 0) -> None:
        """See Array."""
        self._controller.kill(next_dies_at=next_dies_at)

    def kill_front(self) -> None:
        """See Array: always BadInput; the front of a head is not restarted alone."""
        raise BadInput(f"{self.spec.name}: nothing would restart the front of a head")

    def wait_settled(self, since: float, seconds: float = READY_SECONDS) -> None:
        """Wait until the controller has said, after `since` (Unix seconds), that all addresses are
        in place; WaitTimeout after `seconds`."""
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
        self.power_on_dark()
        self.wait_settled(since)

    def power_on_dark(self) -> None:
        """Boot all heads that are off; returns when their agents run."""
        for head in self.heads.values():
            if not head.powered:
                head.power_on()

    def versions(self) -> dict[str, str]:
        """See Array."""
        return self._on()[0].stack.versions()

    def stop(self) -> None:
        """See Array."""
        self._undo.close()


def check(target: str, policy: Policy) -> None:
    """Raise BadInput for an engine or a policy that an array with heads cannot have."""
    if ABILITY not in engines.find(target).abilities:
        raise BadInput(
            f"target {target}: an array with heads needs one with {engines.ABILITIES[ABILITY]}; "
            "`lab list` says which have, or choose a topology without heads"
        )
    if policy.relay:
        raise BadInput(
            "this scenario needs a relay, and an array with heads has none; "
            "choose a topology without heads, such as --topology one_switch"
        )
