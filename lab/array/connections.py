"""How many connections hosts have to each port of an array."""

from __future__ import annotations

from lab.array.array import Array
from lab.portal import Portal
from lab.timeline import Timeline


def count_connections(array: Array, timeline: Timeline, moment: str) -> dict[str, int]:
    """The number of TCP connections to each port, also put on `timeline` with `moment`.

    Read from the array's kernel by ss(8): an engine's own list does not tell the address.
    """
    spec = array.spec
    ports = {Portal(str(a.ip)): p.name for p in spec.ports for a in p.addresses}
    counts = {port.name: 0 for port in spec.ports}
    listed = array.runner.run(["ss", "-tnH", "state", "established"]).output
    for line in listed.splitlines():
        port = ports.get(Portal.parse(line.split()[2]))
        if port:
            counts[port] += 1
    timeline.add(spec.name, "connections", moment=moment, ports=counts)
    return counts
