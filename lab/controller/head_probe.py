"""Does a head's data port work, whatever its link says? The other heads and hosts tell.

In every round each head broadcasts on the data network which round of each other head it heard
last. A port works if another head names a late round of this one. A host's answer counts only while
no other head is heard: hosts can forge answers, and heads cannot be forged (sealed.py). With no
sign for `COUNT` rounds the head is dark. Late rounds do not count: a head that was held up has not
looked, so silence proves nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from lab.controller.frames import (
    BROADCAST,
    ETH_ARP,
    ETH_IPV6,
    ETH_PROBE,
    answer,
    probe,
    probed,
    question,
)
from lab.controller.netlink import Link
from lab.controller.probe import frames, raw_socket, send
from lab.controller.sealed import HEAD_PROBE, Frame, Refused, Rejected, opened, seal

COUNT = 10
"""Rounds without a sign until a head is dark; 200 ms with the default heartbeat interval."""
ASK_EVERY = 2
"""Every so many rounds one host is asked, in turn."""
ROUND = struct.Struct("!I")
HEARD = struct.Struct("!HQI")
"""A head that was heard: its number, its boot, its round."""


class Signs:
    """What the head `own` heard of the other heads, and whether they hear it. Pure."""

    def __init__(self, key: bytes, own: int, boot: int) -> None:
        self._key, self._own, self._boot = key, own, boot
        self._numbers: dict[tuple[int, int], int] = {}
        self._last: dict[int, tuple[int, int, int]] = {}
        self._sent = 0
        self._sign = self._answer = 0
        self.round = 0

    @property
    def live(self) -> bool:
        """Whether there was a sign within the last COUNT rounds."""
        alone = not any(map(self._hears, self._last))
        return self.round - max(self._sign, self._answer if alone else 0) < COUNT

    def heard(self, data: bytes) -> None:
        """Take a sealed frame; Refused if it is no new one of another head."""
        frame = opened(self._key, HEAD_PROBE, data)
        if frame.sender == self._own:
            return  # a switch may send a broadcast back
        (theirs,) = ROUND.unpack_from(frame.body)
        named = HEARD.iter_unpack(frame.body[ROUND.size :])
        # Only a head that hears this one now can name its boot and a late round.
        sign = any(
            (number, boot) == (self._own, self._boot) and self.round - at < COUNT
            for number, boot, at in named
        )
        if frame.number <= self._numbers.get((frame.sender, frame.boot), 0):
            raise Refused("seen before")
        if not sign and self._hears(frame.sender) and self._last[frame.sender][0] != frame.boot:
            raise Refused("of another boot")
        self._numbers[frame.sender, frame.boot] = frame.number
        self._last[frame.sender] = frame.boot, theirs, self.round
        if sign:
            self._sign = self.round

    def _hears(self, head: int) -> bool:
        return head in self._last and self.round - self._last[head][2] < COUNT

    def host_answered(self) -> None:
        """A host answered, or somebody in its name."""
        self._answer = self.round

    def say(self) -> bytes:
        """The sealed frame of this round."""
        self._sent += 1
        told = [HEARD.pack(head, boot, at) for head, (boot, at, _) in self._last.items()]
        body = ROUND.pack(self.round) + b"".join(told)
        return seal(self._key, HEAD_PROBE, Frame(self._own, self._boot, self._sent, body))


class DataProbe:
    """The probes of the head `own` of `heads`, through the port `link`; `hosts` are addresses."""

    def __init__(
        self, key: bytes, boot: int, heads: Sequence[str], own: str, hosts: Sequence[str],
        link: Link, rejected: Rejected,
    ) -> None:  # fmt: skip
        self._hosts, self._mac = list(hosts), link.mac
        self._signs, self._rejected = Signs(key, heads.index(own), boot), rejected
        self._socket = raw_socket(link.name, ETH_PROBE)
        kinds = {ETH_IPV6 if ":" in host else ETH_ARP for host in hosts}
        self._answers = [raw_socket(link.name, kind) for kind in sorted(kinds)]

    @property
    def live(self) -> bool:
        """Whether there was a sign within the last COUNT rounds."""
        return self._signs.live

    def tick(self, on_time: bool) -> None:
        """One round: read what came in, then send; `on_time`: the round began when due."""
        signs = self._signs
        signs.round += on_time
        for frame in frames(self._socket):
            try:
                signs.heard(probed(frame))
            except Refused as refused:
                self._rejected.note(str(refused))
        for one in self._answers:
            # Unicast only: an answer proves that our question left through this port.
            if any(answer(f) for f in frames(one) if f[:6] == self._mac):
                signs.host_answered()
        send(self._socket, probe(BROADCAST, self._mac, signs.say()))
        if self._hosts and signs.round % ASK_EVERY == 0:
            host = self._hosts[signs.round // ASK_EVERY % len(self._hosts)]
            send(self._socket, question(host, self._mac))
