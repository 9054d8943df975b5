"""Faults, each a context manager: it begins on entry, is undone on exit, and both are recorded."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager

from pyroute2 import IPRoute

from lab.running import Lab


@contextmanager
def cable_pulled(lab: Lab, name: str) -> Iterator[None]:
    """Pull the cable of port or host `name`: its carrier is lost until the fault ends.

    The switch's end of the veth goes down, which takes the carrier of the other end
    (drivers/net/veth.c, veth_close).
    """
    interface = lab.switch_end(name)
    # By netlink, for a process that does it would blur the moment by some milliseconds.
    with IPRoute() as route:
        (index,) = route.link_lookup(ifname=interface)
        lab.timeline.add(name, "fault", name="carrier-loss", phase="begin")
        route.link("set", index=index, state="down")
        try:
            yield
        finally:
            route.link("set", index=index, state="up")
            lab.timeline.add(name, "fault", name="carrier-loss", phase="end")


@contextmanager
def port_silenced(lab: Lab, name: str) -> Iterator[None]:
    """The switch drops all frames of port or host `name`, both ways; its carrier stays up."""
    interface = lab.switch_end(name)
    with IPRoute() as route:
        (index,) = route.link_lookup(ifname=interface)
        bridge = route.get_links(index)[0].get_attr("IFLA_MASTER")
        lab.timeline.add(name, "fault", name="silent", phase="begin")
        route.link("set", index=index, master=0)
        try:
            yield
        finally:
            route.link("set", index=index, master=bridge)
            lab.timeline.add(name, "fault", name="silent", phase="end")


@contextmanager
def initiator_frozen(lab: Lab, host: str) -> Iterator[None]:
    """Stop the initiator's process on `host`; its sessions go on in the kernel."""
    initiator = lab.host(host).initiator
    lab.timeline.add(host, "fault", name="initiator-frozen", phase="begin")
    initiator.freeze()
    try:
        yield
    finally:
        initiator.thaw()
        lab.timeline.add(host, "fault", name="initiator-frozen", phase="end")


@contextmanager
def array_powered_off(lab: Lab) -> Iterator[None]:
    """Cut the power of the array; when the fault ends it is on again and serves."""
    name = lab.array.spec.name
    lab.timeline.add(name, "fault", name="power-cut", phase="begin")
    lab.array.power_cut()
    try:
        yield
    finally:
        lab.array.power_on()
        lab.timeline.add(name, "fault", name="power-cut", phase="end")


@contextmanager
def second_owner(lab: Lab, address: str, port: str) -> Iterator[None]:
    """Give `address` to `port` as well, behind the controller's back: a split brain."""
    interface = lab.array.interface(port)
    whole = str(ipaddress.ip_interface(address))  # /32 or /128
    command = ["ip", "address", "add", whole, "dev", interface]
    lab.timeline.add(port, "fault", name="second-owner", phase="begin")
    lab.array.runner.run(command)
    try:
        yield
    finally:
        command[2] = "del"
        lab.array.runner.run(command, check=False)  # the controller may have repaired it
        lab.timeline.add(port, "fault", name="second-owner", phase="end")


@contextmanager
def block_overwritten(lab: Lab, block: int) -> Iterator[None]:
    """Overwrite block `block` (4 KiB) of the first disk behind everybody's back; not undone."""
    disk = lab.array.target.luns[0].path
    lab.timeline.add(lab.array.spec.name, "fault", name="block-overwritten", phase="begin")
    with disk.open("r+b") as file:
        file.seek(block * 4096)
        file.write(b"\xff" * 4096)
    try:
        yield
    finally:
        lab.timeline.add(lab.array.spec.name, "fault", name="block-overwritten", phase="end")
