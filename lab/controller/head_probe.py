"""Does a head's data port work, whatever its link says? The other heads and hosts tell.

In every round each head broadcasts on the data network which heads it heard lately. A port works if
another head names this one, or a host answers. With neither for `COUNT` rounds the head is dark.
Late rounds do not count: a head that was held up has not looked, so silence proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from lab.controller.frames import (
    BROADCAST,
    ETH_ARP,
    ETH_IPV6,
    ETH_PROBE,
    answer,
    probe,
    probed,
    probed_round,
    question,
    token,
)
from lab.controller.netlink import Link
from lab.controller.probe import frames, raw_socket, send

COUNT = 10
"""Rounds without a sign until a head is dark; 200 ms with the default heartbeat interval."""
ASK_EVERY = 2
"""Every so many rounds one host is asked, in turn."""


class DataProbe:
    """The probes of the head `own` of `heads`, through the port `link`; `hosts` are addresses."""

    def __init__(
        self, array: str, heads: Sequence[str], own: str, hosts: Sequence[str], link: Link
    ) -> None:
        self._own, self._hosts, self._mac = heads.index(own), list(hosts), link.mac
        self._run = token(array, 0)
        self._socket = raw_socket(link.name, ETH_PROBE)
        kinds = {ETH_IPV6 if ":" in host else ETH_ARP for host in hosts}
        self._answers = [raw_socket(link.name, kind) for kind in sorted(kinds)]
        self._heard: dict[int, int] = {}
        self._round = 0
        self._sign = 0

    @property
    def live(self) -> bool:
        """Whether there was a sign within the last COUNT rounds."""
        return self._round - self._sign < COUNT

    def tick(self, on_time: bool) -> None:
        """One round: read what came in, then send; `on_time`: the round began when due."""
        self._round += on_time
        for frame in frames(self._socket):
            number = probed(frame, self._run)
            if number is None or number == self._own:
                continue
            self._heard[number] = self._round
            if probed_round(frame) >> self._own & 1:
                self._sign = self._round
        for one in self._answers:
            # Unicast only: an answer proves that our question left through this port.
            if any(answer(f) for f in frames(one) if f[:6] == self._mac):
                self._sign = self._round
        lately = sum(1 << n for n, at in self._heard.items() if self._round - at < COUNT)
        send(self._socket, probe(BROADCAST, self._mac, self._run, self._own, lately))
        if self._hosts and self._round % ASK_EVERY == 0:
            host = self._hosts[self._round // ASK_EVERY % len(self._hosts)]
            send(self._socket, question(host, self._mac))
