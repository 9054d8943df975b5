"""Faults: context managers. Each begins on entry and is undone on exit; both are recorded."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from pyroute2 import IPRoute

from lab.controller.frames import announcements
from lab.errors import BadInput
from lab.run.lab import Lab
from targets.base import KillableDaemon

# Options of a bridge port (net/bridge: br_handle_frame_finish, br_flood). With no entry for the
# port in the bridge's table, a locked port accepts no frame, and one without flooding sends none.
# With neigh_suppress a port sends no unsolicited neighbour messages.
_SWITCH = {
    "from": ("learning off locked on fdb_flush", "learning on locked off"),
    "to": (
        "learning off flood off mcast_flood off bcast_flood off fdb_flush",
        "learning on flood on mcast_flood on bcast_flood on",
    ),
    "announcements": ("neigh_suppress on", "neigh_suppress off"),
}
LOSSY = "loss 1% delay 1ms 1ms reorder 5% duplicate 1%"
"""Options of tc-netem(8): a bad cable, and a switch that queues."""


@contextmanager
def recorded(lab: Lab, where: str, fault: str, **details: Any) -> Iterator[None]:
    """Record the begin and end of a fault. Make and undo the fault within."""
    lab.timeline.add(where, "fault", name=fault, phase="begin", **details)
    try:
        yield
    finally:
        lab.timeline.add(where, "fault", name=fault, phase="end")


@contextmanager
def cable_pulled(lab: Lab, name: str) -> Iterator[None]:
    """Pull the cable of port or host `name`, or of a link between switches, such as "s1-s2".

    The carrier is lost until the fault ends: the switch's end of the veth goes down, and so the
    other end loses its carrier (drivers/net/veth.c, veth_close).
    """
    interface = lab.switch_end(name)
    # By netlink: starting a process would blur the moment by some milliseconds.
    with IPRoute() as route:
        (index,) = route.link_lookup(ifname=interface)
        with recorded(lab, name, "carrier-loss"):
            route.link("set", index=index, state="down")
            try:
                yield
            finally:
                route.link("set", index=index, state="up")


@contextmanager
def port_silenced(lab: Lab, name: str) -> Iterator[None]:
    """The switch drops all frames of port or host `name`, both ways; its carrier stays up."""
    interface = lab.switch_end(name)
    with IPRoute() as route:
        (index,) = route.link_lookup(ifname=interface)
        bridge = route.get_links(index)[0].get_attr("IFLA_MASTER")
        with recorded(lab, name, "silent"):
            route.link("set", index=index, master=0)
            try:
                yield
            finally:
                route.link("set", index=index, master=bridge)


@contextmanager
def port_deaf_or_mute(lab: Lab, name: str, way: Literal["from", "to"]) -> Iterator[None]:
    """The switch drops what comes `from` port or host `name`, or what goes `to` it; its carrier
    stays up."""
    with _switch_told(lab, name, f"silent-{way}", way):
        yield


@contextmanager
def announcements_lost(lab: Lab, host: str) -> Iterator[None]:
    """The switch keeps gratuitous ARP and unsolicited neighbour advertisements from `host`."""
    with _switch_told(lab, host, "announcements-lost", "announcements"):
        yield


@contextmanager
def _switch_told(lab: Lab, name: str, fault: str, what: str) -> Iterator[None]:
    begin, end = _SWITCH[what]
    argv = ["ip", "link", "set", "dev", lab.switch_end(name), "type", "bridge_slave"]
    with recorded(lab, name, fault):
        lab.switch.run([*argv, *begin.split()])
        try:
            yield
        finally:
            lab.switch.run([*argv, *end.split()])


@contextmanager
def cable_lossy(lab: Lab, host: str, netem: str = LOSSY) -> Iterator[None]:
    """Spoil what `host` sends, by netem in its kernel; its counters go to the timeline."""
    one = lab.host(host)
    runner, device = one.runner, one.spec.interface.removeprefix(f"{host}-")
    qdisc = ["tc", "qdisc", "add", "dev", device, "root", "netem", *netem.split()]
    with recorded(lab, host, "lossy", netem=netem):
        runner.run(["sh", "-c", 'modprobe sch_netem && exec "$@"', "sh", *qdisc])
        try:
            yield
        finally:
            shown = runner.run(["tc", "-s", "-j", "qdisc", "show", "dev", device]).output
            (counted,) = (one for one in json.loads(shown) if one["kind"] == "netem")
            runner.run(["tc", "qdisc", "del", "dev", device, "root"])
            lab.timeline.add(host, "netem", packets=counted["packets"], dropped=counted["drops"])


@contextmanager
def controller_killed(lab: Lab, *, next_dies_at: int = 0) -> Iterator[None]:
    """SIGKILL the controller; its supervisor restarts it, not the end of the fault.

    `next_dies_at`: see Array.kill_controller.
    """
    with recorded(lab, lab.array.spec.name, "controller-killed"):
        lab.array.kill_controller(next_dies_at=next_dies_at)
        yield


@contextmanager
def front_killed(lab: Lab) -> Iterator[None]:
    """SIGKILL the front; the array restarts it by itself."""
    with recorded(lab, lab.array.spec.name, "front-killed"):
        lab.array.kill_front()
        yield


@contextmanager
def target_killed(lab: Lab) -> Iterator[None]:
    """SIGKILL the target. At the end of the fault it serves again; BadInput if in a kernel."""
    name, engine = lab.array.spec.name, lab.array.engine
    if not isinstance(engine, KillableDaemon):
        raise BadInput(f"{name}: {engine.name} lives in its kernel and cannot be killed alone")
    with recorded(lab, name, "target-killed"):
        engine.kill()
        try:
            yield
        finally:
            engine.restart()


@contextmanager
def host_powered_off(lab: Lab, name: str) -> Iterator[None]:
    """Cut the power of a host. At the end of the fault it has booted, with no session."""
    host = lab.host(name)
    with recorded(lab, name, "power-cut"):
        host.power_cut()
        try:
            yield
        finally:
            host.power_on()


@contextmanager
def initiator_frozen(lab: Lab, host: str) -> Iterator[None]:
    """Stop the initiator's process on `host`; its sessions go on in the kernel."""
    initiator = lab.host(host).open_iscsi
    with recorded(lab, host, "initiator-frozen"):
        initiator.freeze()
        try:
            yield
        finally:
            initiator.thaw()


@contextmanager
def array_powered_off(lab: Lab) -> Iterator[None]:
    """Cut the power of the array. At the end of the fault it is on again and serves."""
    with recorded(lab, lab.array.spec.name, "power-cut"):
        lab.array.power_cut()
        try:
            yield
        finally:
            lab.array.power_on()


@contextmanager
def second_owner(lab: Lab, address: str, port: str) -> Iterator[None]:
    """Give `address` to `port` as well, behind the controller's back: a split brain."""
    interface = lab.array.interface(port)
    whole = str(ipaddress.ip_interface(address))  # /32 or /128
    command = ["ip", "address", "add", whole, "dev", interface]
    with recorded(lab, port, "second-owner"):
        lab.array.runner.run(command)
        try:
            yield
        finally:
            command[2] = "del"
            lab.array.runner.run(command, check=False)  # the controller may have repaired it


@contextmanager
def address_claimed(lab: Lab, address: str, port: str) -> Iterator[None]:
    """`port` answers for `address`, which another port has: one ARP announcement, never undone."""
    interface, runner = lab.array.interface(port), lab.array.runner
    mac = bytes.fromhex(
        runner.run(["cat", f"/sys/class/net/{interface}/address"]).output.strip().replace(":", "")
    )
    with recorded(lab, port, "address-claimed"):
        for frame in announcements(address, mac):
            code = (
                "import socket; one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); "
                f"one.bind(({interface!r}, 0)); one.send(bytes.fromhex({frame.hex()!r}))"
            )
            runner.run(["python3", "-c", code])
        yield


@contextmanager
def block_overwritten(lab: Lab, block: int) -> Iterator[None]:
    """Overwrite block `block` (4 KiB) of the first disk in its file; never undone."""
    disk = lab.array.targets[0].luns[0].path
    with recorded(lab, lab.array.spec.name, "block-overwritten"):
        with disk.open("r+b") as file:
            file.seek(block * 4096)
            file.write(b"\xff" * 4096)
        yield
