"""`python3 -m lab.controller.head_agent CONFIG.json`: the controller's agent on each head.

Every few milliseconds it sends a heartbeat by UDP on the management network: the addresses of its
kernel and the last order that it carried out. An order is the full set of addresses for this head.
The controller repeats it, so a lost datagram does no harm. An order also lists the connections that
other heads had at these addresses; their hosts are told (tickle.py). The agent ignores orders older
than the last one.

A head has addresses only while it has a lease. An order that names a heartbeat renews it: for a
while from when that heartbeat was sent, by the head's own clock. So a delay makes the lease
shorter, never longer. When the lease is out, the agent takes all addresses off: the controller may
give them to another head soon. A controller that dies is started again well within a lease.

The first line of standard input is the key of the run (sealed.py). Standard output has a JSON
object a line.
"""

from __future__ import annotations

import gc
import json
import select
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.controller import config
from lab.controller.__main__ import hurry
from lab.controller.addresses import Hands, action_lines
from lab.controller.announce import Announcer
from lab.controller.head_probe import DataProbe
from lab.controller.model import Action, AddAddress, RemoveAddress
from lab.controller.netlink import Connections
from lab.controller.sealed import (
    BEAT,
    CONTROLLER,
    ORDER,
    READS,
    Frame,
    Refused,
    Rejected,
    new_boot,
    opened,
    read_key,
    seal,
)
from lab.controller.tickle import Tickler
from lab.controller.watch import Changes, Watch

CONNECTIONS_S = 0.1


class Lease:
    """Until when a head may have addresses, by its own clock. Pure.

    `seconds` None: for ever, for controls only.
    """

    def __init__(self, seconds: float | None, boot: int) -> None:
        self._seconds, self._boot = seconds, boot
        self._until = float("-inf")

    def renewed(self, boot: int, number: int) -> None:
        """The controller has answered the heartbeat `number` (its time, in ns) of `boot`."""
        if self._seconds is not None and boot == self._boot:
            self._until = max(self._until, number / 1e9 + self._seconds)

    def holds(self, now: float) -> bool:
        """Whether the head may have addresses at `now` (monotonic seconds)."""
        return self._seconds is None or now < self._until


def order_of(frame: Frame, head: str, last: tuple[int, int]) -> dict[str, Any]:
    """The order for `head` in `frame`; Refused if it is none, or none after the frame `last`."""
    if frame.sender != CONTROLLER:
        raise Refused("of another sender")
    if (frame.boot, frame.number) <= last:
        raise Refused("seen before")
    order: dict[str, Any] = json.loads(frame.body)
    if order["to"] != head:
        raise Refused("for another head")
    return order


class Agent:
    """The agent of the head that `content`, its configuration, names."""

    def __init__(self, content: Mapping[str, Any], key: bytes) -> None:
        self._head, self._key = str(content["head"]), key
        self._number = content["heads"].index(self._head)
        self.boot = new_boot()
        lease_ms = content["lease_ms"]
        self._lease = Lease(lease_ms if lease_ms is None else lease_ms / 1000, self.boot)
        self._held = False
        self._rejected = Rejected()
        self._last = (0, 0)
        self._interval_s = float(content["interval_ms"]) / 1000
        self._config = config.parse(dict(content))
        self._watch = Watch(self._config)
        self._hands = Hands()
        self._announcer = Announcer()
        self._announcer.port(self._head, self._watch.port(self._head))
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((content["listen"][0], content["listen"][1]))
        self._socket.connect((content["controller"][0], content["controller"][1]))
        self._socket.setblocking(False)
        self._order: tuple[int, int] = (0, 0)
        self._wanted: frozenset[str] | None = None
        self._applied = (0, 0)
        self._not_before = 0.0
        self._tickler = Tickler()
        self._asked = Connections()
        self._connections: list[tuple[str, int, str]] = []
        self._next_connections = 0.0
        link = self._watch.port(self._head)
        hosts = list(self._config.desired.initiators)
        self._probe = link and DataProbe(
            key, self.boot, content["heads"], self._head, hosts, link, self._rejected
        )

    def run(self) -> None:
        """Serve until standard input ends."""
        poll = select.poll()
        for source in (self._socket, self._watch, 0):
            poll.register(source, select.POLLIN)
        starts, hands = 0, -1
        due = time.monotonic()
        gc.collect()
        gc.freeze()
        gc.disable()
        while True:
            if self._hands.starts != starts:
                if hands >= 0:
                    poll.unregister(hands)
                starts, hands = self._hands.starts, self._hands.fileno()
                poll.register(hands, select.POLLIN)
            wait = max(0.0, due - time.monotonic())
            ready = dict(poll.poll(wait * 1000))
            if 0 in ready:
                return
            if self._socket.fileno() in ready:
                self._hear()
            if self._watch.fileno() in ready:
                self._seen(self._watch.update())
            if hands in ready:
                self._answers()
            spoke = self._reconcile()
            now = time.monotonic()
            repeat = self._announcer.next_due()
            if repeat is not None and now >= repeat:
                self._announcer.repeat(now, self._watch.owners())
            self._tickler.repeat(now)
            if now >= due and self._probe:
                self._probe.tick(on_time=now < due + self._interval_s)
            if spoke or now >= due:
                self._beat()
                due = now + self._interval_s
            self._hands.end_if_stuck()
            if rejected := self._rejected.report(now):
                self._say("control-rejected", counts=rejected)

    def _say(self, what: str, **details: Any) -> None:
        print(json.dumps({"what": what, **details}), flush=True)

    def _hear(self) -> None:
        for _ in range(READS):
            try:
                data = self._socket.recv(1 << 16)
            except OSError:  # nothing more, or the controller's port is closed
                return
            try:
                frame = opened(self._key, ORDER, data)
                order = order_of(frame, self._head, self._last)
            except Refused as refused:
                self._rejected.note(str(refused))
                continue
            self._last = frame.boot, frame.number
            if order["grant"]:
                self._lease.renewed(*order["grant"])
            if order["number"] is None:
                continue
            stamp = (frame.boot, int(order["number"]))
            if stamp >= self._order:
                self._order, self._wanted = stamp, frozenset(order["addresses"])
                self._tickler.heirs([(h, p, a) for h, p, a in order["connections"]])

    def _seen(self, changes: Changes) -> None:
        now = time.monotonic()
        for name in changes.links | changes.up:
            self._announcer.port(name, self._watch.port(name))
        for address, owner in changes.gained:
            self._announcer.announce(address, owner, now)
            if owner == self._head:
                self._tickler.gained(address, now)

    def _answers(self) -> None:
        failures = self._hands.answers()
        if not self._hands.busy:
            self._seen(self._watch.update())
            if failures:
                self._not_before = time.monotonic() + 0.1
                self._say("refused", lines=[f"{f.line}: {f.message}" for f in failures])

    def _has(self) -> frozenset[str]:
        return frozenset(a for a, owners in self._watch.owners().items() if owners)

    def _reconcile(self) -> bool:
        """One step towards the order; True if this completed it."""
        held, self._held = self._held, self._lease.holds(time.monotonic())
        if held != self._held:
            self._say("lease-renewed" if self._held else "lease-out")
        wanted = self._wanted if self._held else frozenset[str]()
        if wanted is None or self._hands.busy or time.monotonic() < self._not_before:
            return False
        owners, actions = self._watch.owners(), list[Action]()
        for address, at in owners.items():
            here = address in wanted
            actions += [
                RemoveAddress(address, owner, "order")
                for owner in sorted(at)
                if not here or owner != self._head
            ]
            if here and self._head not in at:
                actions.append(AddAddress(address, self._head, "order"))
        if actions:
            lines, _ = action_lines(self._config, actions, self._watch.prefix)
            self._hands.act(lines)
            return False
        done, self._applied = self._applied != self._order, self._order
        return done

    def _beat(self) -> None:
        if time.monotonic() >= self._next_connections:
            self._next_connections = time.monotonic() + CONNECTIONS_S
            self._connections = self._asked.each()
        beat = {
            "answers": self._last,
            "addresses": sorted(self._has()),
            "epoch": self._applied[0],
            "applied": self._applied[1],
            "live": self._watch.links()[self._head] and bool(self._probe and self._probe.live),
            "connections": self._connections,
        }
        try:
            frame = Frame(self._number, self.boot, time.monotonic_ns(), json.dumps(beat).encode())
            self._socket.send(seal(self._key, BEAT, frame))
        except OSError:
            return  # no controller listens, or the management network is down


def main() -> int:
    """Run the agent that the command line names; the exit status."""
    if len(sys.argv) != 2:
        print("usage: python3 -m lab.controller.head_agent CONFIG.json", file=sys.stderr)
        return 2
    content = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        key = read_key()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    agent = Agent(content, key)
    hurry()
    print(json.dumps({"what": "ready", "boot": f"{agent.boot:016x}"}), flush=True)
    agent.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
