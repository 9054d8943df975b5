"""The topology of a lab: a mininet Topo that also names the array, its ports and addresses.

Data only. A topology file holds one subclass of ArrayTopo; its build() adds the parts.
lab/topology/loading.py finds and imports such files, lab/topology/whole.py checks the result.
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

from lab.errors import BadInput, unknown
from lab.iscsi_names import check_iqn
from lab.mininet_classes import Topo

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
# Without a dash: "s1-s2" is a link between two switches. A disk's serial number begins with the
# name of its target, and has letters and digits only.
_PLAIN_NAME = re.compile(r"[a-z][a-z0-9]*")
LONGEST_INTERFACE = 15  # IFNAMSIZ - 1, include/uapi/linux/if.h


@dataclass(frozen=True)
class Lun:
    """One logical unit: its number and size in MiB. Its identity comes from array and number."""

    number: int = 1
    size_mib: int = 64


@dataclass(frozen=True)
class Target:
    """A target of an array: its iSCSI name, its LUNs, and `name`, which names its disks."""

    name: str
    iqn: str
    luns: tuple[Lun, ...]


@dataclass(frozen=True)
class PortSpec:
    """A port of an array: its node, its switch, and the data addresses whose home it is."""

    name: str
    interface: str
    addresses: tuple[Interface, ...]
    switch: str
    place: str
    node: str


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
    """An array: ports in takeover order, virtual addresses, and one or more targets.

    `iqn` and `luns` are of its first target.
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
        """All targets, in the order of their add calls."""
        return [Target(self.name, self.iqn, self.luns), *self.further]

    def port(self, name: str) -> PortSpec:
        """The port `name`; BadInput if there is none."""
        for one in self.ports:
            if one.name == name:
                return one
        raise unknown("port", name, [one.name for one in self.ports])

    @property
    def home(self) -> PortSpec:
        """The home port of the virtual addresses: the first one."""
        return self.ports[0]


class ArrayTopo(Topo):
    """Base of all topologies: write build() with addSwitch, add_array, add_port and add_host.

    Several switches are joined by addLink("s1", "s2"), without a loop; that link's name is "s1-s2".
    An address is text with its prefix length ("10.0.0.11/24"), or a list of such texts. Raises
    BadInput, with file and line of the call, for whatever cannot be built.
    """

    def __init__(self, **options: Any) -> None:
        self.array: ArraySpec | None = None
        self.initiators: dict[str, HostSpec] = {}
        self.trunks: dict[str, tuple[str, str]] = {}
        """The links between switches: name to the two switches."""
        self.switch_places: dict[str, str] = {}
        """Where each switch was added."""
        self._interfaces: set[str] = set()
        super().__init__(**options)

    @property
    def storage(self) -> ArraySpec:
        """The array. A checked topology has one."""
        assert self.array is not None
        return self.array

    def addSwitch(self, name: str, **options: Any) -> str:
        """Add a switch, as mininet's Topo does."""
        place = _place()
        self._check_plain(f"switch {name!r}", name, place)
        self._check_name(name, place)
        self.switch_places[name] = place
        # Mininet would take it from the digits of the name, and refuse one without.
        options.setdefault("dpid", f"{len(self.switch_places):x}")
        return str(super().addSwitch(name, **options))

    def addLink(self, node1: str, node2: str, *args: Any, **options: Any) -> Any:
        """Add a cable, as mininet's Topo does; between two switches it must not close a loop."""
        if {node1, node2} <= {*self.switches()}:
            place, name = _place(), f"{node1}-{node2}"
            if node2 in self.joined(node1):
                raise BadInput(
                    f"{place}: the link {name} closes a loop of switches, in which broadcasts go "
                    "round for ever; leave it out"
                )
            self._check_taken(name, place)
            self.trunks[name] = (node1, node2)
        elif lacking := {node1, node2} - {*self.nodes()}:
            raise BadInput(f"{_place()}: a link to {lacking.pop()!r}; add that first")
        return super().addLink(node1, node2, *args, **options)

    def joined(self, switch: str) -> set[str]:
        """The switches that frames from `switch` reach, including itself."""
        found, left = set[str](), [switch]
        while left:
            one = left.pop()
            if one not in found:
                found.add(one)
                left += [a if one == b else b for a, b in self.trunks.values() if one in (a, b)]
        return found

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
        self._check_plain(f"array {name!r}", name, place)
        self._check_name(name, place)
        first = _target(name, iqn, luns, place)
        self.array = ArraySpec(name, _addresses(virtual, place), first.iqn, first.luns, place)
        return str(self.addHost(name, ip=None))

    def add_target(
        self, name: str, *, luns: Sequence[Lun] = (Lun(),), iqn: str | None = None
    ) -> str:
        """Add another target to the array, at the same ports."""
        place = _place()
        if not self.array:
            raise BadInput(f"{place}: target {name!r} before its array; call add_array first")
        self._check_plain(f"target {name!r}", name, place)
        self._check_name(name, place)
        target = _target(name, iqn, luns, place)
        if target.iqn in [one.iqn for one in self.array.targets]:
            raise BadInput(f"{place}: there is a target {target.iqn} already; give it another iqn")
        self.array.further.append(target)
        return name

    def add_port(self, name: str, addresses: str | Sequence[str], switch: str) -> str:
        """Add a port of the array on `switch`. The order of calls is the order of takeover."""
        place = _place()
        if not self.array:
            raise BadInput(f"{place}: port {name!r} before its array; call add_array first")
        self._check_name(name, place)
        self._check_switch(switch, place, f"port {name}")
        interface = self._interface(self.array.name, name, place)
        spec = PortSpec(
            name, interface, _addresses(addresses, place), switch, place, node=self.array.name
        )
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

    def _check_plain(self, what: str, name: str, place: str) -> None:
        if not isinstance(name, str) or not _PLAIN_NAME.fullmatch(name):
            raise BadInput(
                f"{place}: {what} is no name: small letters and digits, a letter first, no dash"
            )

    def _check_name(self, name: str, place: str) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise BadInput(
                f"{place}: {name!r} is no name: small letters and digits, a letter first, dashes "
                "between"
            )
        self._check_taken(name, place)

    def _check_taken(self, name: str, place: str) -> None:
        taken = {*self.nodes(), *self.trunks}
        if self.array:
            taken |= {port.name for port in self.array.ports}
            taken |= {target.name for target in self.array.further}
        if name in taken:
            raise BadInput(
                f"{place}: the name {name!r} is taken; each node, port and target needs its own"
            )

    def _check_switch(self, switch: str, place: str, what: str) -> None:
        if switch not in self.switches():
            remedy = "" if self.switches() else "call addSwitch first"
            raise BadInput(f"{place}: {what}: {unknown('switch', switch, self.switches(), remedy)}")

    def _interface(self, node: str, end: str, place: str) -> str:
        name = f"{node}-{end}"
        if len(name) > LONGEST_INTERFACE:
            raise BadInput(
                f"{place}: the interface {name!r} has {len(name)} letters, at most "
                f"{LONGEST_INTERFACE} are possible; shorten a name"
            )
        if name in self._interfaces:  # MAC addresses are made from the names
            raise BadInput(f"{place}: two interfaces would be called {name!r}; change a name")
        self._interfaces.add(name)
        return name


def _target(name: str, iqn: str | None, luns: Sequence[Lun], place: str) -> Target:
    iqn = iqn or f"iqn.2026-01.lab.failover:{name}"
    check_iqn(iqn, place)
    for lun in luns:
        if not isinstance(lun, Lun) or {type(lun.number), type(lun.size_mib)} != {int}:
            raise BadInput(
                f"{place}: {lun}: a LUN is like Lun(1, 64), its number and its size in whole MiB"
            )
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
