"""The network of a lab: Mininet's nodes and cables, as real cards and cables behave."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from lab.commands import LocalRunner, Runner
from lab.guest.kernel_host import KernelHost
from lab.mininet_classes import Link, LinuxBridge, Mininet, setLogLevel
from lab.topology.topology import ArrayTopo


class Cable(Link):
    """A link whose ends may be in network namespaces of different owners.

    Mininet makes a link by a command in its first node, which has no right in the other one then.
    """

    @classmethod
    def makeIntfPair(
        cls, one: str, other: str, mac1: str, mac2: str, node1: Any, node2: Any, **_: Any
    ) -> None:  # fmt: skip
        """See mininet.link.Link."""
        ends = f"name {one} address {mac1} netns {node1.pid} type veth"
        ends += f" peer name {other} address {mac2} netns {node2.pid}"
        LocalRunner("cables").run(["ip", "link", "add", *ends.split()])


def start(topo: ArrayTopo, switch: Runner, undo: ExitStack) -> Mininet:
    """Start the network of `topo`, whose nodes have their classes; `undo` gets its end."""
    setLogLevel("critical")
    # Mininet would raise limits of the whole machine at its first use (mininet.util.fixLimits).
    Mininet.inited = True
    # An extra interface, so that no veth has the same index as its peer in another namespace. The
    # kernel takes a veth with its peer's index for a device without a peer, and reports its carrier
    # up to a second late (linkwatch_urgent_event, net/core/link_watch.c).
    switch.run(["ip", "link", "add", "first", "type", "bridge"])
    net = Mininet(topo=topo, switch=LinuxBridge, link=Cable, controller=None, waitConnected=False)
    undo.callback(net.stop)
    net.start()
    for node in net.hosts:
        if not isinstance(node, KernelHost):
            give_queues(LocalRunner(node.name, node.pid), node.intfNames())
    return net


def give_queues(runner: Runner, interfaces: Sequence[str]) -> None:
    """Give each interface a queue, as a network card has one and a veth has none.

    A veth without a queue tells TCP that its peer drops frames (veth_xmit, drivers/net/veth.c). TCP
    then sends again after 200 ms, as for a closed window (tcp_probe0_base, include/net/tcp.h). A
    real pulled cable tells TCP nothing.
    """
    lines = [f"qdisc replace dev {name} root pfifo limit 1000" for name in interfaces]
    runner.run(["tc", "-batch", "-"], stdin="\n".join(lines))


def switch_ends(net: Mininet, topo: ArrayTopo) -> dict[str, str]:
    """The switch's interface of the cable of each port and host, and the first switch's one of each
    link between switches, such as "s1-s2"."""
    return {
        **{p.name: _switch_end(net[p.node], p.interface) for p in topo.storage.ports},
        **{h.name: _switch_end(net[h.name], h.interface) for h in topo.initiators.values()},
        **{
            name: str(net[one].connectionsTo(net[other])[0][0].name)
            for name, (one, other) in topo.trunks.items()
        },
    }


def _switch_end(node: Any, interface: str) -> str:
    link = node.intf(interface).link
    end = link.intf2 if link.intf1.name == interface else link.intf1
    return str(end.name)
