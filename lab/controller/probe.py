"""Probes between the array's ports; they find failures that leave the link up."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping, Sequence

from lab.controller.config import Probe
from lab.controller.frames import (
    ETH_ARP,
    ETH_IPV6,
    ETH_PROBE,
    answer,
    probe,
    probed,
    question,
)
from lab.controller.judge import Judge
from lab.controller.model import Verdict
from lab.controller.netlink import Link
from lab.controller.sealed import (
    KEY_BYTES,
    PORT_PROBE,
    READS,
    Frame,
    Refused,
    Rejected,
    new_boot,
    opened,
    seal,
)

HOSTS_A_ROUND = 4
SO_ATTACH_FILTER = 26
NEIGHBOUR_ADVERTISEMENTS = (
    # Classic BPF (Documentation/networking/filter.rst): ICMPv6, type 136. I/O passes here too, so
    # all else is dropped before it is copied.
    (0x30, 0, 0, 20),
    (0x15, 0, 3, 58),
    (0x30, 0, 0, 54),
    (0x15, 0, 1, 136),
    (0x06, 0, 0, 0x40000),
    (0x06, 0, 0, 0),
)


class Prober:
    """Sends and hears probes, one round at each `tick`.

    It sends them to itself, so the key is its own. A probe names the port that it is for.
    """

    def __init__(self, ports: Sequence[str], options: Probe) -> None:
        self.interval_s = options.interval_s
        self._judge = Judge(options.count)
        self._ports = list(ports)
        self.rejected = Rejected()
        self._key, self._boot = os.urandom(KEY_BYTES), new_boot()
        self._numbers: dict[tuple[str, str], int] = {}
        self._links: dict[str, Link] = {}
        self._sockets: dict[str, socket.socket] = {}
        self._listening: dict[tuple[str, int], socket.socket] = {}
        self._turn = 0

    def port(self, name: str, link: Link | None) -> None:
        """Set the interface of a port; None: it is gone."""
        old = self._links.pop(name, None)
        if link:
            self._links[name] = link
        if old and link and old.index == link.index:
            return
        for key in [key for key in self._listening if key[0] == name]:
            self._listening.pop(key).close()
        if name in self._sockets:
            self._sockets.pop(name).close()
        if link:
            self._sockets[name] = raw_socket(link.name, ETH_PROBE)

    def tick(self, live: Mapping[str, bool], hosts: Sequence[str]) -> dict[str, Verdict]:
        """Read what came in since the last tick, judge, and send the next round.

        `hosts`: addresses of hosts to ask through ports that are in doubt.
        """
        ports = [name for name in self._ports if live.get(name) and name in self._sockets]
        judge = self._judge
        judge.begin(ports)
        for name in ports:
            self._listen(name)
        verdicts = judge.verdicts()
        for name in judge.doubtful():
            self._ask(name, hosts)
        for number, name in enumerate(self._ports):
            if name in ports:
                for other in ports:
                    if other != name:
                        body = other.encode()
                        frame = Frame(number, self._boot, judge.round, body)
                        sealed = seal(self._key, PORT_PROBE, frame)
                        send(
                            self._sockets[name],
                            probe(self._links[other].mac, self._links[name].mac, sealed),
                        )
        return verdicts

    def _listen(self, name: str) -> None:
        for frame in frames(self._sockets[name]):
            if frame[:6] != self._links[name].mac:
                continue  # a switch that does not know a port yet sends its frames to all
            try:
                self._judge.heard(name, self._sender(name, probed(frame)))
            except Refused as refused:
                self.rejected.note(str(refused))
        for (port, _), listening in self._listening.items():
            if port == name:
                # Unicast only: an answer proves that our question left through this port.
                mine = [f for f in frames(listening) if f[:6] == self._links[name].mac]
                if any(answer(frame) for frame in mine):
                    self._judge.answered(name)

    def _sender(self, name: str, data: bytes) -> str:
        """The port that sent this probe to the port `name`; Refused if none did, or not now."""
        frame = opened(self._key, PORT_PROBE, data)
        sender = self._ports[frame.sender]
        if frame.body != name.encode():
            raise Refused("for another port")
        if frame.number <= self._numbers.get((sender, name), 0):
            raise Refused("seen before")
        self._numbers[sender, name] = frame.number
        return sender

    def _ask(self, name: str, hosts: Sequence[str]) -> None:
        for _ in range(min(len(hosts), HOSTS_A_ROUND)):
            self._turn += 1
            host = hosts[self._turn % len(hosts)]
            kind = ETH_IPV6 if ":" in host else ETH_ARP
            if (name, kind) not in self._listening:
                # Keep it open: closing a packet socket waits for other processors.
                self._listening[name, kind] = raw_socket(self._links[name].name, kind)
            send(self._sockets[name], question(host, self._links[name].mac))


def raw_socket(interface: str, kind: int) -> socket.socket:
    """A packet socket that receives one ethertype at `interface` and sends any frame."""
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    raw.setblocking(False)
    if kind == ETH_IPV6:
        import ctypes  # imported only here: it takes milliseconds

        code = b"".join(struct.pack("=HBBI", *step) for step in NEIGHBOUR_ADVERTISEMENTS)
        kept = ctypes.create_string_buffer(code)
        program = struct.pack("@HP", len(NEIGHBOUR_ADVERTISEMENTS), ctypes.addressof(kept))
        raw.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
    raw.bind((interface, kind))
    return raw


def frames(raw: socket.socket) -> list[bytes]:
    """The frames waiting at a packet socket, the first READS of them."""
    found: list[bytes] = []
    while len(found) < READS:
        try:
            found.append(raw.recv(256))
        except OSError:  # nothing more, or the link is down
            break
    return found


def send(raw: socket.socket, frame: bytes) -> None:
    """Send a frame; drop it if the link is down or its queue full."""
    try:
        raw.send(frame)
    except OSError:
        return  # nobody hears this round
