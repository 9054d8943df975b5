"""`python3 -m lab.controller.head_agent CONFIG.json`: the controller's agent on each head.

Every few milliseconds the agent sends a heartbeat by UDP on the management network: its addresses
and the latest order that it has executed. An order is the full set of addresses that the head must
have. The controller repeats it, so a lost datagram does no harm. It comes with the connections that
other heads had at these addresses; the agent tells those hosts (tickle.py). The agent ignores
orders older than the last one. Without an order, as after a restart, it leaves addresses alone.
"""

from __future__ import annotations

import gc
import json
import select
import socket
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from lab.controller import config
from lab.controller.__main__ import hurry
from lab.controller.addresses import Hands, action_lines
from lab.controller.announce import Announcer
from lab.controller.head_probe import DataProbe
from lab.controller.model import Action, AddAddress, RemoveAddress
from lab.controller.netlink import Connections
from lab.controller.tickle import Tickler
from lab.controller.watch import Changes, Watch

CONNECTIONS_S = 0.1
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Agent:
    """The agent of the head that `content`, its configuration, names."""

    def __init__(self, content: dict[str, Any]) -> None:
        self._head = str(content["head"])
        self._interval_s = float(content["interval_ms"]) / 1000
        self._config = config.parse(content)
        self._watch = Watch(self._config)
        self._hands = Hands()
        self._announcer = Announcer()
        self._announcer.port(self._head, self._watch.port(self._head))
        # Namespaces share the boot id of their machine, so each agent adds an id of its own.
        self._boot = f"{BOOT_ID.read_text().strip()} {uuid.uuid4()}"
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
            self._config.array, content["heads"], self._head, hosts, link
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

    def _hear(self) -> None:
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except OSError:  # nothing more, or the controller's port is closed
                return
            order = json.loads(data)
            stamp = (int(order["epoch"]), int(order["number"]))
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
                print(json.dumps({"refused": [f"{f.line}: {f.message}" for f in failures]}))
                sys.stdout.flush()

    def _has(self) -> frozenset[str]:
        return frozenset(a for a, owners in self._watch.owners().items() if owners)

    def _reconcile(self) -> bool:
        """Take a step towards the order; True if the order is newly complete."""
        if self._wanted is None or self._hands.busy or time.monotonic() < self._not_before:
            return False
        owners, actions = self._watch.owners(), list[Action]()
        for address, at in owners.items():
            here = address in self._wanted
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
            "head": self._head,
            "boot": self._boot,
            "addresses": sorted(self._has()),
            "epoch": self._applied[0],
            "applied": self._applied[1],
            "live": self._watch.links()[self._head] and bool(self._probe and self._probe.live),
            "connections": self._connections,
        }
        try:
            self._socket.send(json.dumps(beat).encode())
        except OSError:
            return  # no controller listens, or the management network is down


def main() -> int:
    """Run the agent that the command line names; the exit status."""
    if len(sys.argv) != 2:
        print("usage: python3 -m lab.controller.head_agent CONFIG.json", file=sys.stderr)
        return 2
    content = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    agent = Agent(content)
    hurry()
    print(json.dumps({"ready": content["head"]}), flush=True)
    agent.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
