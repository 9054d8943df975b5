"""Checks of a whole topology, after build()."""

from __future__ import annotations

import ipaddress

from lab.errors import BadInput
from lab.topology.topology import (
    LONGEST_INTERFACE,
    ArraySpec,
    ArrayTopo,
    HostSpec,
    Interface,
    PortSpec,
    file_of,
)

MOST_PORTS, MOST_HOSTS = 128, 100
"""Seen to work on two processors: 128 ports take 16 s, 100 hosts two minutes. 200 ports did not:
changes interrupted each listing of the addresses (NLM_F_DUMP_INTR)."""

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


def check(topo: ArrayTopo) -> None:
    """Raise BadInput, with the place, unless `topo` has an array with ports, a host, connected
    switches, and addresses that fit together."""
    place = file_of(type(topo))
    array = topo.array
    if array is None:
        raise BadInput(f"{place}: no array; call add_array in build()")
    if not array.ports:
        raise BadInput(f"{array.place}: array {array.name} has no ports; call add_port")
    if not topo.initiators:
        raise BadInput(f"{place}: no host; call add_host in build()")
    for what, number, most in (
        ("ports", len(array.ports), MOST_PORTS),
        ("hosts", len(topo.initiators), MOST_HOSTS),
    ):
        if number > most:
            raise BadInput(f"{place}: {number} {what}; a lab has room for {most}; leave some out")
    _check_switches(topo)
    owners = [
        (f"the virtual port of {array.name}", array.virtual, array.place),
        *((f"port {p.name}", p.addresses, p.place) for p in array.ports),
        *((f"host {h.name}", h.addresses, h.place) for h in topo.initiators.values()),
    ]
    _check_differ(owners)
    _check_subnets(owners)
    _check_virtual(array, [*topo.initiators.values()])


def _check_switches(topo: ArrayTopo) -> None:
    for switch, place in topo.switch_places.items():
        last = f"{switch}-eth{len(topo.links())}"
        if len(last) > LONGEST_INTERFACE:
            raise BadInput(
                f"{place}: switch {switch!r}: its interface {last!r} has {len(last)} letters, at "
                f"most {LONGEST_INTERFACE} are possible; shorten its name"
            )
    first, *others = topo.switch_places
    reached = topo.joined(first)
    for switch in others:
        if switch not in reached:
            there: list[HostSpec | PortSpec] = [*topo.initiators.values(), *topo.storage.ports]
            alone = [one.name for one in there if one.switch in topo.joined(switch)]
            raise BadInput(
                f"{topo.switch_places[switch]}: no link leads from switch {switch} "
                f"({', '.join(alone) or 'nothing is on it'}) to {first}; "
                f"join them: self.addLink({first!r}, {switch!r})"
            )


Owners = list[tuple[str, tuple[Interface, ...], str]]
"""The owner of each address, with the place (file:line) of its definition."""


def _check_differ(owners: Owners) -> None:
    taken: dict[str, str] = {}
    for owner, addresses, place in owners:
        for address in addresses:
            text = str(address.ip)
            if text in taken:
                raise BadInput(f"{place}: {owner} has the address {text} of {taken[text]}")
            taken[text] = owner


def _check_subnets(owners: Owners) -> None:
    found: dict[Subnet, str] = {}
    for owner, addresses, place in owners:
        for subnet in (address.network for address in addresses):
            for other, first in found.items():
                if other != subnet and other.overlaps(subnet):
                    raise BadInput(
                        f"{place}: {owner} has the subnet {subnet}, which overlaps {other} of "
                        f"{first}; write the same prefix length, or take other addresses"
                    )
            found.setdefault(subnet, owner)


def _check_virtual(array: ArraySpec, hosts: list[HostSpec]) -> None:
    reachable = {a.network for p in array.ports for a in p.addresses}
    for address in array.virtual:
        if address.network not in reachable:
            subnets = ", ".join(sorted(map(str, reachable)))
            raise BadInput(
                f"{array.place}: the virtual address {address} is outside the subnets "
                f"of the ports ({subnets}); no port could carry it"
            )
    for host in hosts:
        if not {a.network for a in host.addresses} & {a.network for a in array.virtual}:
            raise BadInput(
                f"{host.place}: host {host.name} shares no subnet with the virtual port; "
                f"give it an address in {array.virtual[0].network}"
            )
