"""What a lab is made of: a mininet Topo that also names the array, its ports and addresses.

Data only. A topology file holds one subclass of ArrayTopo whose build() says what there is; it is
checked as a whole before anything is made of it. lab/topology/loading.py finds and runs such files.
"""

from __future__ import annotations

import inspect
import ipaddress
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.errors import BadInput
from lab.iscsi_names import check_iqn
from lab.mininet_classes import Topo

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
_NAME = re.compile(r"[a-z][a-z0-9]*")
_LONGEST_INTERFACE = 15  # IFNAMSIZ - 1, include/uapi/linux/if.h


@dataclass(frozen=True)
class Lun:
    """One logical unit: its number and size in MiB. Identity is made from array and number."""

    number: int = 1
    size_mib: int = 64


@dataclass(frozen=True)
class Target:
    """A target of an array: its iSCSI name, its LUNs, and the name that its disks are known by."""

    name: str
    iqn: str
    luns: tuple[Lun, ...]


@dataclass(frozen=True)
class PortSpec:
    """A port of an array: its switch and the data addresses that are at home on it."""

    name: str
    interface: str
    addresses: tuple[Interface, ...]
    switch: str
    place: str


@dataclass(frozen=True)
class HostSpec:
    """A host: its switch and its addresses."""

    name: str
    interface: str
    addresses: tuple[Interface, ...]
    switch: str
    place: str


def initiator_name(host: str) -> str:
    """The iSCSI name of the host `host`."""
    return f"iqn.2026-01.lab.failover:host-{host}"


@dataclass
class ArraySpec:
    """A storage system: ports in takeover order, virtual addresses, and targets, one or more.

    `iqn` and `luns` are those of its first target.
    """

    name: str
    virtual: tuple[Interface, ...]
    iqn: str
    luns: tuple[Lun, ...]
    place: str
    ports: list[PortSpec] = field(default_factory=list)
    further: list[Target] = field(default_factory=list)

    @property
    def targets(self) -> list[Target]:
        """All targets, in the order that they were named in."""
        return [Target(self.name, self.iqn, self.luns), *self.further]

    @property
    def home(self) -> PortSpec:
        """The port where the virtual addresses are at home: the first one."""
        return self.ports[0]


class ArrayTopo(Topo):
    """Base of all topologies: write build() with addSwitch, add_array, add_port and add_host.

    An address is text with its prefix length ("10.0.0.11/24"), or a list of such texts. Raises
    BadInput, with file and line of the call, for whatever cannot be built.
    """

    def __init__(self, **options: Any) -> None:
        self.array: ArraySpec | None = None
        self.initiators: dict[str, HostSpec] = {}
        super().__init__(**options)
        self._check_whole()

    @property
    def storage(self) -> ArraySpec:
        """The array; there is one, or the topology was refused."""
        assert self.array is not None
        return self.array

    def add_array(
        self,
        name: str,
        virtual: str | Sequence[str],
        *,
        luns: Sequence[Lun] = (Lun(),),
        iqn: str | None = None,
    ) -> str:
        """Name the array, its virtual address (one, or one of each family), and its target."""
        place = _place()
        if self.array:
            raise BadInput(f"{place}: a second array {name!r}; a topology has one")
        self._check_name(name, place)
        first = _target(name, iqn, luns, place)
        self.array = ArraySpec(name, _addresses(virtual, place), first.iqn, first.luns, place)
        return str(self.addHost(name, ip=None))

    def add_target(
        self, name: str, *, luns: Sequence[Lun] = (Lun(),), iqn: str | None = None
    ) -> str:
        """Give the array a further target, at the same ports."""
        place = _place()
        if not self.array:
            raise BadInput(f"{place}: target {name!r} before its array; call add_array first")
        self._check_name(name, place)
        target = _target(name, iqn, luns, place)
        if target.iqn in [one.iqn for one in self.array.targets]:
            raise BadInput(f"{place}: there is a target {target.iqn} already; give it another iqn")
        self.array.further.append(target)
        return name

    def add_port(self, name: str, addresses: str | Sequence[str], switch: str) -> str:
        """Give the array a port on `switch`. The order of the calls is the order of takeover."""
        place = _place()
        if not self.array:
            raise BadInput(f"{place}: port {name!r} before its array; call add_array first")
        self._check_name(name, place)
        self._check_switch(switch, place, f"port {name}")
        interface = self._interface(self.array.name, name, place)
        spec = PortSpec(name, interface, _addresses(addresses, place), switch, place)
        self.array.ports.append(spec)
        self.addLink(self.array.name, switch, intfName1=interface)
        return name

    def add_host(self, name: str, addresses: str | Sequence[str], switch: str) -> str:
        """Add a host, with an initiator, on `switch`."""
        place = _place()
        self._check_name(name, place)
        self._check_switch(switch, place, f"host {name}")
        interface = self._interface(name, "eth0", place)
        self.initiators[name] = HostSpec(
            name, interface, _addresses(addresses, place), switch, place
        )
        self.addHost(name, ip=None)
        self.addLink(name, switch, intfName1=interface)
        return name

    def _check_name(self, name: str, place: str) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise BadInput(
                f"{place}: {name!r} is no name: small letters and digits, a letter first"
            )
        taken = {*self.nodes()}
        if self.array:
            taken |= {port.name for port in self.array.ports}
            taken |= {target.name for target in self.array.further}
        if name in taken:
            raise BadInput(
                f"{place}: the name {name!r} is taken; each node, port and target needs its own"
            )

    def _check_switch(self, switch: str, place: str, what: str) -> None:
        if switch not in self.switches():
            known = ", ".join(self.switches()) or "none; call addSwitch first"
            raise BadInput(f"{place}: {what} is on switch {switch!r}; there is {known}")

    def _interface(self, node: str, end: str, place: str) -> str:
        name = f"{node}-{end}"
        if len(name) > _LONGEST_INTERFACE:
            raise BadInput(
                f"{place}: the interface {name!r} has {len(name)} letters, at most "
                f"{_LONGEST_INTERFACE} are possible; shorten a name"
            )
        return name

    def _check_whole(self) -> None:
        place = file_of(type(self))
        if self.array is None:
            raise BadInput(f"{place}: no array; call add_array in build()")
        if not self.array.ports:
            raise BadInput(
                f"{self.array.place}: array {self.array.name} has no ports; call add_port"
            )
        if not self.initiators:
            raise BadInput(f"{place}: no host; call add_host in build()")
        for switch in self.switches():
            last = f"{switch}-eth{len(self.links())}"
            if not _NAME.fullmatch(switch) or len(last) > _LONGEST_INTERFACE:
                raise BadInput(
                    f"{place}: switch {switch!r}: small letters and digits, a letter first, and "
                    f"{last!r} within {_LONGEST_INTERFACE} letters"
                )
            if switch in self.initiators or switch == self.array.name:
                raise BadInput(f"{place}: {switch!r} is a switch and something else; rename one")
        taken: dict[str, str] = {}
        owners: list[tuple[str, tuple[Interface, ...], str]] = [
            (f"the virtual port of {self.array.name}", self.array.virtual, self.array.place),
            *((f"port {p.name}", p.addresses, p.place) for p in self.array.ports),
            *((f"host {h.name}", h.addresses, h.place) for h in self.initiators.values()),
        ]
        for owner, addresses, where in owners:
            for address in addresses:
                text = str(address.ip)
                if text in taken:
                    raise BadInput(f"{where}: {owner} has the address {text} of {taken[text]}")
                taken[text] = owner
        reachable = {a.network for p in self.array.ports for a in p.addresses}
        for address in self.array.virtual:
            if address.network not in reachable:
                subnets = ", ".join(sorted(map(str, reachable)))
                raise BadInput(
                    f"{self.array.place}: the virtual address {address} is outside the subnets "
                    f"of the ports ({subnets}); no port could carry it"
                )
        for host in self.initiators.values():
            if not {a.network for a in host.addresses} & {a.network for a in self.array.virtual}:
                raise BadInput(
                    f"{host.place}: host {host.name} shares no subnet with the virtual port; "
                    f"give it an address in {self.array.virtual[0].network}"
                )


def _target(name: str, iqn: str | None, luns: Sequence[Lun], place: str) -> Target:
    iqn = iqn or f"iqn.2026-01.lab.failover:{name}"
    check_iqn(iqn, place)
    numbers = [lun.number for lun in luns]
    if not numbers or len(set(numbers)) < len(numbers):
        raise BadInput(f"{place}: LUN numbers must be there and differ, not {numbers}")
    for lun in luns:
        if not (1 <= lun.number <= 255 and 1 <= lun.size_mib <= 1 << 20):
            raise BadInput(f"{place}: {lun}: number 1 to 255, size 1 MiB to 1 TiB")
    return Target(name, iqn, tuple(luns))


def _addresses(given: str | Sequence[str], place: str) -> tuple[Interface, ...]:
    texts = [given] if isinstance(given, str) else list(given)
    if not texts:
        raise BadInput(f"{place}: no address")
    found = []
    for text in texts:
        try:
            address = ipaddress.ip_interface(text)
        except ValueError as wrong:
            raise BadInput(f"{place}: {wrong}; write it like 10.0.0.1/24") from None
        if "/" not in str(text) or address.network.num_addresses < 4:
            raise BadInput(f"{place}: {text!r} needs the prefix length of its subnet, like /24")
        last = address.network.broadcast_address if address.version == 4 else None
        if address.ip in (address.network.network_address, last):
            raise BadInput(f"{place}: {text} names its subnet, not a host in it")
        if address.ip.is_link_local or address.ip.is_multicast or address.ip.is_loopback:
            raise BadInput(f"{place}: {text} is link-local, loopback or multicast; take another")
        found.append(address)
    return tuple(found)


def _place() -> str:
    """File and line of the topology's call, which is two frames up."""
    frame = inspect.stack()[2]
    return f"{shown(Path(frame.filename))}:{frame.lineno}"


def shown(path: Path) -> str:
    """`path` as messages name it: from the current directory, if it is below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def file_of(kind: type) -> str:
    """The file in which a class is written, as messages name it."""
    module = sys.modules.get(kind.__module__)
    return shown(Path(str(getattr(module, "__file__", None) or kind.__name__)))
