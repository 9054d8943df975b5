"""Tells hosts that their connections are gone, with "tickle ACKs" as Samba's CTDB sends them.

If a head dies after it acknowledged all of a host's data, the host has nothing to send again. It
waits for an answer until its next NOP-Out, five seconds on average. So the head that takes over the
address sends the host a segment outside its window. The host answers with the numbers that it
expects (RFC 9293, 3.10.7.4). Our kernel has no such connection and resets it with the right number.
All that is needed of the old head is the list of its connections.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

from lab.controller.frames import checksum

ISCSI = 3260
ACK = 0x10
REPEAT_S = (0.0, 0.02, 0.1, 0.6)
"""When the segment is sent, in seconds after the address came up. Linux answers at most twice a
second (tcp_invalid_ratelimit, Documentation/networking/ip-sysctl.rst): the last covers a loss."""

Connection = tuple[str, int, str]
"""The host's address and port, and our address."""


def segment(host: str, port: int, address: str) -> bytes:
    """An ACK from `address` to `host` outside any window (RFC 9293, 3.1)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    header = struct.pack("!HHIIBBHHH", ISCSI, port, 0, 0, 5 << 4, ACK, 1234, 0, 0)
    source, target = socket.inet_pton(family, address), socket.inet_pton(family, host)
    return header[:16] + checksum(source, target, socket.IPPROTO_TCP, header) + header[18:]


class Tickler:
    """Sends tickle ACKs for each address that comes up here to the hosts connected to it before."""

    def __init__(self) -> None:
        self._heirs: list[Connection] = []
        self._due: list[tuple[float, Connection]] = []

    def heirs(self, connections: Sequence[Connection]) -> None:
        """Set the connections that other heads had at the addresses of this head."""
        self._heirs = list(connections)

    def gained(self, address: str, now: float) -> None:
        """Note that `address` came up here at `now` (monotonic seconds)."""
        for connection in self._heirs:
            if connection[2] == address:
                self._due += [(now + after, connection) for after in REPEAT_S]
        self.repeat(now)

    def repeat(self, now: float) -> None:
        """Send the segments that are due."""
        due = [connection for at, connection in self._due if at <= now]
        self._due = [one for one in self._due if one[0] > now]
        for connection in due:
            self._send(*connection)

    def _send(self, host: str, port: int, address: str) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP) as sock:
                sock.bind((address, 0))
                sock.sendto(segment(host, port, address), (host, 0))
        except OSError:
            return  # the address has left again; the host notices by itself
