"""The method `bonding`: the ports of an array with its own kernel are slaves of one bond."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lab.run.lab import Lab

ARP_INTERVAL_MS = 100
"""Milliseconds between the bond's ARP requests to the hosts; it gives a slave up after two to
three. miimon is no choice: a guest's card does not report its carrier (see lab/guest)."""

_ACTIVE = "/sys/class/net/bond0/bonding/active_slave"


@contextmanager
def bonded(lab: Lab) -> Iterator[None]:
    """Put the ports into an active-backup bond with all addresses; it ends with the array."""
    array, spec = lab.array, lab.array.spec
    hosts = ",".join(str(h.addresses[0].ip) for h in lab.setup.topo.initiators.values())
    ports = [array.interface(port.name) for port in spec.ports]
    lines = [f"address flush dev {port}" for port in ports]
    lines += [f"link set {port} down" for port in ports]
    lines += [
        f"link add bond0 type bond mode active-backup arp_interval {ARP_INTERVAL_MS} "
        f"arp_ip_target {hosts} arp_validate none"
    ]
    lines += [f"link set {port} master bond0" for port in ports]
    lines += [f"link set bond0 type bond primary {ports[0]}", "link set bond0 up"]
    addresses = [*spec.virtual, *(a for port in spec.ports for a in port.addresses)]
    for address in addresses:
        lines.append(f"address add {address} dev bond0 noprefixroute")
        table = array.table_of(str(address.ip))
        lines.append(f"route replace {address.network} dev bond0 table {table}")
    lines.append(f"route replace {addresses[0].network} dev bond0")
    array.runner.run(["modprobe", "bonding", "max_bonds=0"])
    array.runner.run(["ip", "-batch", "-"], stdin="\n".join(lines) + "\n")
    yield


def active_port(lab: Lab, _address: str) -> str:
    """The bond's active port; '' if there is none."""
    active = lab.array.runner.run(["cat", _ACTIVE]).output.strip()
    names = {lab.array.interface(port.name): port.name for port in lab.array.spec.ports}
    return names.get(active, "")
