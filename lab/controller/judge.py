"""Judges which port is silent, from who hears whom in each round. Pure.

In every round each port sends a probe to every other port. A port is accused if for `count` rounds
it hears nobody or nobody hears it. A host's answer through it clears it. It is silent if another
port works at that time: it is heard and hears, or has a host's answer. Otherwise the port is only
suspect, because either side may be at fault, as with two ports and no host to ask. A round counts
only if this process was awake: it sent, and looked a full interval later. A process that was held
up judges later, not wrongly.
"""

from __future__ import annotations

from collections.abc import Collection

from lab.controller.model import Verdict

SELDOM = 5
"""Every so many rounds hosts are asked through a port that stays silent."""


class Judge:
    """The evidence of each round, and the verdicts from it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.round = 0
        self._hears: dict[str, int] = {}
        self._heard: dict[str, int] = {}
        self._host: dict[str, int] = {}
        self._jury: frozenset[str] = frozenset()
        self._silent: set[str] = set()

    def begin(self, live: Collection[str]) -> None:
        """Begin a round with the ports `live`, which have carrier."""
        self.round += 1
        self._silent &= set(live)
        jury = frozenset(live) - self._silent
        # A port that is new, or was alone, starts with a clean record.
        fresh = jury if len(self._jury) < 2 else jury - self._jury
        for port in fresh:
            self._hears[port] = self._heard[port] = self.round
        for port in jury - self._jury:
            self._host.pop(port, None)
        self._jury = jury

    def heard(self, by: str, sender: str) -> None:
        """Note that `by` heard `sender` in this round."""
        self._hears[by] = self._heard[sender] = self.round

    def answered(self, port: str) -> None:
        """Note that a host answered through `port` in this round."""
        self._host[port] = self.round

    def quiet(self, port: str) -> int:
        """The number of rounds that `port` was not heard or heard nobody, whichever is more."""
        return self.round - min(self._hears.get(port, 0), self._heard.get(port, 0))

    def verdicts(self) -> dict[str, Verdict]:
        """The verdict on every port with carrier, at the end of a round."""
        found: dict[str, Verdict] = {}
        for port in sorted(self._jury | self._silent):
            found[port] = self._verdict(port)
        self._silent = {port for port, verdict in found.items() if verdict == "silent"}
        return found

    def _verdict(self, port: str) -> Verdict:
        since_host = self.round - self._host.get(port, -(1 << 30))
        if self.quiet(port) < self.count or since_host < self.count + SELDOM:
            return "ok"
        if port in self._silent:
            return "silent"
        if len(self._jury) < 2:
            return "ok"
        last = self.round - self.quiet(port)
        for other in self._jury - {port}:
            works = self.round - self.quiet(other) > last
            # After a common pause one host's answer may come first; wait one more round.
            if works or self._host.get(other, 0) > last + 1:
                return "silent"
        return "suspect"

    def doubtful(self) -> list[str]:
        """The ports through which to ask hosts in this round."""
        ports = self._silent | (self._jury if len(self._jury) > 1 else frozenset())
        return [
            port
            for port in sorted(ports)
            if 1 <= self.quiet(port) <= 2 * self.count
            or (self.quiet(port) and self.round % SELDOM == 0)
        ]
