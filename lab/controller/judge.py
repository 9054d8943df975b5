"""Which port is silent, judged in rounds by who hears whom. Pure.

In every round each port sends to every other. A port is accused if for `count` rounds it hears no
port or no port hears it. A host's answer through the port clears it. The verdict is `silent` if
another port works meanwhile (it hears and is heard, or a host answers through it). Else it is
`suspect`: the fault may be on either side, as with two ports and no host. A round counts only if
this process sent and then looked a full interval later, so delays make verdicts late, not wrong.
"""

from __future__ import annotations

from collections.abc import Collection

from lab.controller.model import Verdict

SELDOM = 5
"""Through a port that stays silent hosts are asked every so many rounds."""


class Judge:
    """Collects what was heard in each round and gives verdicts."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.round = 0
        self._hears: dict[str, int] = {}
        self._heard: dict[str, int] = {}
        self._host: dict[str, int] = {}
        self._jury: frozenset[str] = frozenset()
        self._silent: set[str] = set()

    def begin(self, live: Collection[str]) -> None:
        """Begin a round with the ports that have carrier."""
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
        """For how many rounds `port` was not heard or heard no port, whichever is more."""
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
            # A host's answer may be the first after a pause of all ports: allow one round more.
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
