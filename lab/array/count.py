"""How many connections each port of an array has."""

from __future__ import annotations

from lab.array.array import Array
from lab.array.connections import portals_by_peer
from lab.portal import Portal
from lab.timeline import Timeline


def count_connections(array: Array, timeline: Timeline, moment: str) -> dict[str, int]:
    """How many TCP connections hosts have to each port of `array`, according to its kernel.

    Adds the numbers to the timeline, with `moment`.
    """
    spec = array.spec
    portals = {str(Portal(str(a.ip))): p.name for p in spec.ports for a in p.addresses}
    counts = {port.name: 0 for port in spec.ports}
    for found in portals_by_peer(array.runner, portals).values():
        for portal in found:
            counts[portals[portal]] += 1
    timeline.add(spec.name, "connections", moment=moment, ports=counts)
    return counts
