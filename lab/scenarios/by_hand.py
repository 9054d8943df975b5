"""`lab up`: a lab that stays up and takes orders from another terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from lab.array.policy import Policy
from lab.checks import (
    Check,
    kernel_quiet,
    no_io_errors,
    no_lost_writes,
    one_owner_of_virtual_address,
    reached,
    session_survived,
)
from lab.errors import BadInput
from lab.faults.network import cable_pulled
from lab.run import desk
from lab.run.lab import Lab
from lab.run.scenario import scenario
from lab.topology.heads import HeadsTopo
from lab.topology.topology import ArrayTopo
from lab.waiting import wait_for

TO_CONTROLLER = ("move-vip", "drain", "undrain", "rebalance")
_OBEYED_SECONDS = 10.0


class _Hand:
    """Carries out a person's orders on `lab`."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.pulled: dict[str, int] = {}

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out an order and return the status after it; BadInput if it is impossible."""
        command, name = order.get("command"), order.get("name")
        if command in TO_CONTROLLER:
            self._tell(str(command), name)
        elif command == "pull":
            if name in self.pulled:
                raise BadInput(f"the cable of {name} is out already; `lab plug {name}` puts it in")
            self.pulled[str(name)] = self.lab.begin(cable_pulled(self.lab, str(name)))
        elif command == "plug":
            if name not in self.pulled:
                out = ", ".join(self.pulled) or "none"
                raise BadInput(f"the cable of {name} is not out; those that are: {out}")
            self.lab.end(self.pulled.pop(str(name)))
        elif command not in ("status", "down"):
            raise BadInput(f"no order {command!r}")
        return self._status()

    def _tell(self, command: str, port: object) -> None:
        since = time.time()
        self.lab.array.tell(command=command, **({} if port is None else {"port": port}))
        told = wait_for(
            f"the controller to take `{command}`",
            lambda: [
                e
                for e in self.lab.timeline.events("controller")
                if e["t"] >= since and e["what"] in ("order", "refused")
            ],
            seconds=_OBEYED_SECONDS,
        )
        if told[0]["what"] == "refused":
            raise BadInput(f"{command}: {told[0]['message']}")
        virtual = self.lab.array.virtual
        if command == "move-vip" and port is not None:
            wait_for(
                f"{virtual} to be at {port}",
                lambda: self.lab.array.owners(virtual),
                until=lambda owners: owners == {port},
                seconds=_OBEYED_SECONDS,
            )

    def _status(self) -> dict[str, Any]:
        array, hosts = self.lab.array, {}
        spec = array.spec
        every = [*spec.virtual, *(a for port in spec.ports for a in port.addresses)]
        addresses = {str(a.ip): sorted(array.owners(str(a.ip))) for a in every}
        for name, host in self.lab.hosts.items():
            served = [session.address for session in host.initiator.sessions()]
            hosts[name] = {
                address: "+".join(addresses.get(address, [])) or "no port" for address in served
            }
        first = next(iter(self.lab.hosts.values()))
        return {
            "virtual": [str(a.ip) for a in spec.virtual],
            "addresses": addresses,
            "hosts": hosts,
            "pulled": sorted(self.pulled),
            "writes": first.writer.acknowledged,
        }


def _policy(topo: ArrayTopo) -> Policy:
    """With a relay, which asks hosts to move, where the array can have one."""
    return Policy(relay=not isinstance(topo, HeadsTopo))


@scenario(policy=_policy, listed=False)
def by_hand(lab: Lab) -> Iterable[Check]:
    """Faults by hand, while all hosts are logged in and the first one writes."""
    for host in lab.hosts.values():
        host.login()
    first = next(iter(lab.hosts))
    lab.host(first).start_writing()
    lab.say("up; from another terminal: lab status, lab pull p1, …, lab down")
    hand = _Hand(lab)
    desk.serve(lab.folder.path, hand.obey)
    for number in hand.pulled.values():
        lab.end(number)
    lab.host(first).keeps_writing()
    lab.host(first).stop_and_verify()
    return [
        session_survived(first),
        no_io_errors(first),
        no_lost_writes(first),
        one_owner_of_virtual_address(),
        kernel_quiet(),
        reached(),
    ]
