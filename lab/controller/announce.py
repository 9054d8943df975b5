"""Announcements: raw frames, sent as soon as an address is up, and repeated."""

from __future__ import annotations

import heapq
import socket

from lab.controller.frames import announcements
from lab.controller.netlink import Link

REPEAT_S = (0.02, 0.1, 0.5, 1.05, 2.0)
"""When an announcement is repeated, seconds after the first. The first may be lost, and a neighbour
entry refuses a second change within a second (locktime, arp(7))."""


class Announcer:
    """A raw socket for each port, opened in advance, and the announcements that are due."""

    def __init__(self) -> None:
        self._sockets: dict[str, tuple[int, socket.socket]] = {}
        self._macs: dict[str, bytes] = {}
        self._due: list[tuple[float, str, str]] = []
        self._frames: dict[tuple[str, str], list[bytes]] = {}

    def port(self, name: str, link: Link | None) -> None:
        """Prepare to send through a port, or forget it if its interface is gone (`link` None)."""
        old = self._sockets.get(name)
        if old and link and old[0] == link.index and self._macs[name] == link.mac:
            return
        if old:
            old[1].close()
            del self._sockets[name]
        self._frames = {key: f for key, f in self._frames.items() if key[1] != name}
        if link:
            # With protocol 0 it receives nothing; a sent frame has its protocol in its header.
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            raw.bind((link.name, 0))
            raw.setblocking(False)
            self._sockets[name] = (link.index, raw)
            self._macs[name] = link.mac

    def announce(self, address: str, port: str, now: float) -> None:
        """Announce `address` at `port` now and repeat it; earlier repetitions are cancelled."""
        self._send(address, port)
        self._due = [due for due in self._due if due[1] != address]
        self._due += [(now + after, address, port) for after in REPEAT_S]
        heapq.heapify(self._due)

    def next_due(self) -> float | None:
        """When to call `repeat` next (monotonic seconds); None: not needed."""
        return self._due[0][0] if self._due else None

    def repeat(self, now: float, owners: dict[str, frozenset[str]]) -> None:
        """Send the repetitions that are due, except for addresses that left the port."""
        while self._due and self._due[0][0] <= now:
            _, address, port = heapq.heappop(self._due)
            if port in owners.get(address, ()):
                self._send(address, port)

    def _send(self, address: str, port: str) -> None:
        if port not in self._sockets:
            return
        key = (address, port)
        if key not in self._frames:
            self._frames[key] = announcements(address, self._macs[port])
        for frame in self._frames[key]:
            try:
                self._sockets[port][1].send(frame)
            except OSError:
                return  # the link is down or its queue full: a repetition follows
