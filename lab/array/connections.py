"""Which host is connected to which portal, according to the array's kernel."""

from __future__ import annotations

from collections.abc import Collection

from lab.commands import Runner
from lab.portal import Portal


def portals_by_peer(runner: Runner, portals: Collection[str]) -> dict[str, list[str]]:
    """For each host's address: those of `portals` that it has TCP connections to.

    A portal appears once per connection. Read by ss(8): an engine's own list does not tell.
    """
    ends: dict[str, list[str]] = {}
    out = runner.run(["ss", "-tnH", "state", "established"]).output
    for line in out.splitlines():
        local, peer = (str(Portal.parse(end)) for end in line.split()[2:4])
        if local in portals:
            ends.setdefault(Portal.parse(peer).address, []).append(local)
    return ends
