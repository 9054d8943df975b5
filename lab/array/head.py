"""One head of a dual-head array: a kernel that serves at the addresses it is given."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.array.head_site import HeadSite
from lab.array.placing import addresses_of, placing_script
from lab.array.policy import Policy
from lab.array.stack import TargetStack
from lab.array.supervisor import give_key
from lab.controller import config as controller_config
from lab.timeline import Timeline
from lab.topology.heads import HeadSpec, HeadsTopo
from lab.waiting import wait_for
from targets.base import TargetSpec

HEARTBEAT = {"interval_ms": 20, "count": 50}
"""Wait 1 s before fencing: live heads were silent for up to 400 ms on two busy processors.
A head without power is noticed sooner: its link goes down."""
LEASE = {"lease_ms": 2000, "lease_margin_ms": 1000}
"""A head that is cut off gives up its addresses after 2 s. A controller that died was up again
after 0.1 s on a quiet machine, and after 1.3 s beside seven busy processes. The margin is for a
head that is held up, as above."""
UDP_PORT = 5405
READY_SECONDS = 15.0


class Head:
    """One head. Its stack can serve at all addresses of the array, and does at those it has.

    An agent in it adds and removes addresses as the controller orders. `answers`: where each host
    is redirected, see TargetStack.open(). They never change: a data address moves, but stays valid.
    `key`: that of the run, for the agent (lab/controller/sealed.py).
    """

    def __init__(
        self,
        spec: HeadSpec,
        topo: HeadsTopo,
        policy: Policy,
        site: HeadSite,
        target: str,
        targets: list[TargetSpec],
        answers: Mapping[str | None, str | None],
        key: bytes,
        timeline: Timeline,
        logs: Path,
    ) -> None:
        logs.mkdir()
        self.spec, self.site, self._topo, self._answers = spec, site, topo, answers
        self._timeline, self._logs, self._key = timeline, logs, key
        self._lease = policy.lease
        self.stack = TargetStack(
            topo.storage, policy, site, target, targets, [spec.port], timeline, logs
        )
        config = controller_config.parse(self._config())
        # Rules and routes for all addresses, but no address: the controller orders these.
        self._placing = placing_script(config, with_addresses=False, quick=policy.controller)
        self._power = threading.Lock()
        self.powered = True
        self.boot = ""  # as its agent calls it
        self._ended: list[str] = []

    def _config(self) -> dict[str, Any]:
        """The configuration of its agent: all addresses of the array, and its one port."""
        name, array = self.spec.name, self._topo.storage
        controller = self._topo.controller_address
        assert controller is not None
        return {
            "array": array.name,
            "head": name,
            "heads": [*self._topo.heads],
            "initiators": [
                str(a.ip) for host in self._topo.initiators.values() for a in host.addresses
            ],
            "ports": [{"name": name, "interface": self.stack.interface(name)}],
            "addresses": [
                {"address": str(a), "home": name, "virtual": a in array.virtual}
                for a, _ in addresses_of(array)
            ],
            "listen": [str(self.spec.address.ip), UDP_PORT],
            "controller": [str(controller.ip), UDP_PORT],
            "interval_ms": HEARTBEAT["interval_ms"],
            "lease_ms": LEASE["lease_ms"] if self._lease else None,
        }

    def start(self) -> None:
        """Start all parts of the head; returns when its agent runs."""
        self.stack.start(self._placing)
        self._open()

    def _open(self) -> None:
        self.stack.open(self._answers)
        path = self.site.put("agent.json", json.dumps(self._config()))
        agent = self.site.start_module(
            "lab.controller.head_agent", str(path), log=self._logs / "agent.log",
            on_line=self._hear,
        )  # fmt: skip
        give_key(agent, self._key)
        wait_for(f"the agent of {self.spec.name}", lambda: self.boot, seconds=READY_SECONDS)

    def _hear(self, line: str) -> None:
        """Take a line of the agent: its boot, or something for the timeline."""
        try:
            said = json.loads(line)
        except ValueError:
            return  # half a line: its power was cut
        if said["what"] == "ready":
            self._timeline.add(self.spec.name, "head-boot", boot=said["boot"])
            self.boot = said["boot"]
        else:
            self._timeline.add(self.spec.name, "controller", **said)

    def cut(self, boot: str = "") -> str:
        """End its kernel at once: after this it answers nothing and writes nothing.

        With `boot`, only if that has not ended before. Returns the boot that ended: empty if its
        agent did not run yet. Call darken() afterwards, when there is time.
        """
        with self._power:
            if boot and boot in self._ended:
                return boot
            if self.powered:
                self.powered = False
                self.site.end_kernel()
                self._ended.append(self.boot)
                self._timeline.add(self.spec.name, "power", what="off", boot=self.boot)
                self.stack.unseen()
            return self.boot

    def darken(self) -> None:
        """Take the carrier off its cables, after its power was cut."""
        self.site.darken()

    def power_cut(self) -> None:
        """Cut its power, and clean up after it."""
        self.cut()
        self.stack.power_cut()

    def power_on(self) -> None:
        """Boot it again; returns when its agent runs."""
        self.stack.power_cut()  # clean up, also after cut() alone
        with self._power:
            self.powered, self.boot = True, ""
        self.stack.power_on(self._placing)
        self._open()

    def stop(self) -> None:
        """End all parts of the head, at once, with its kernel."""
        self.stack.stop()
