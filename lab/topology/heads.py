"""Topologies of arrays with heads: kernels that share disks and take over from each other."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lab.errors import BadInput
from lab.topology.topology import ArrayTopo, Interface, PortSpec


@dataclass(frozen=True)
class HeadSpec:
    """A head: its one data port (of the same name), its management interface and address, and
    `link`, the controller's end of the management cable."""

    name: str
    port: PortSpec
    management: str
    link: str
    address: Interface


class HeadsTopo(ArrayTopo):
    """Base of the topologies of dual-head arrays: call add_heads() after add_array() in build().

    The controller runs on the node with the name of the array. Each head is a node with its own
    kernel. The order of the heads is the order of takeover.
    """

    def __init__(self, **options: Any) -> None:
        self.heads: dict[str, HeadSpec] = {}
        self.controller_address: Interface | None = None
        super().__init__(**options)

    def add_heads(
        self, names: Sequence[str], data: Sequence[str], switch: str, network: str
    ) -> None:
        """Add the heads `names` with data addresses `data` on `switch`.

        Each has its own management cable to the controller. The controller sees the link go down
        when the head loses power. Controller and heads, in this order, get the first addresses of
        `network` ("192.168.0.0/24"). Raises BadInput for whatever cannot be built.
        """
        if not self.array:
            raise BadInput(f"heads {names} before their array; call add_array first")
        place = self.array.place
        if len(names) < 2 or len(names) != len(data):
            raise BadInput(f"{place}: an array with heads has two or more, with an address each")
        subnet = ipaddress.ip_network(network)
        free = (ipaddress.ip_interface(f"{a}/{subnet.prefixlen}") for a in subnet.hosts())
        self.controller_address = next(free)
        for name, address, manage in zip(names, data, free, strict=False):
            self._check_name(name, place)
            self._check_switch(switch, place, f"head {name}")
            self.addHost(name, ip=None)
            interface, other = (self._interface(name, end, place) for end in ("data", "admin"))
            self.addLink(name, switch, intfName1=interface)
            link = self._interface(self.array.name, name, place)
            self.addLink(self.array.name, name, intfName1=link, intfName2=other)
            addresses = (ipaddress.ip_interface(address),)
            port = PortSpec(name, interface, addresses, switch, place, node=name)
            self.array.ports.append(port)
            self.heads[name] = HeadSpec(name, port, other, link, manage)
