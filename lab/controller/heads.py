"""`python3 -m lab.controller.heads CONFIG.json`: the controller of an array with heads.

It runs outside the heads and hears them on the management network (head_agent.py);
heads_planner.py decides what to do. It cannot cut power itself: a `fence` event on standard output
asks for it, and {"command": "fenced", "head": ...} on standard input confirms it, as a power
distribution unit would. Events and exit status are those of lab.controller.
"""

from __future__ import annotations

import gc
import json
import os
import select
import socket
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lab.controller import netlink
from lab.controller.__main__ import hurry, lock
from lab.controller.heads_planner import (
    Beat,
    Desired,
    Fence,
    Memory,
    Observed,
    plan,
)
from lab.controller.output import Output
from lab.errors import LabError

ORDERS = "fenced, move, status"


def desired(content: dict[str, Any]) -> Desired:
    """The Desired of the configuration `content`, whose times are in milliseconds."""
    interval = float(content["interval_ms"])
    return Desired(
        heads=tuple(content["heads"]),
        homes=dict(content["homes"]),
        fencing=bool(content.get("fencing", True)),
        dead_s=interval * int(content["count"]) / 1000,
    )


class Service:
    """The controller that the configuration `content` describes."""

    def __init__(self, content: dict[str, Any], output: Output) -> None:
        self.output, self.desired = output, desired(content)
        self._peers = {head: tuple(peer) for head, peer in content["heads"].items()}
        self._heads = {peer[0]: head for head, peer in self._peers.items()}
        self._interval_s = float(content["interval_ms"]) / 1000
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((content["listen"][0], content["listen"][1]))
        self._socket.setblocking(False)
        self._epoch = time.time_ns()
        self._memory = Memory(time.monotonic())
        self._beats: dict[str, Beat] = {}
        self._off: dict[str, str] = {}
        self._connections: dict[str, list[tuple[str, int, str]]] = {}
        self._quiet: dict[str, float] = {}
        self._cables = {interface: head for head, interface in content["links"].items()}
        self._dark: set[str] = set()
        self._kernel = netlink.events()
        self._links(netlink.dump())
        self._settled = False
        self._typed = b""

    def run(self) -> None:
        """Serve until standard input ends."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._kernel, select.POLLIN)
        poll.register(0, select.POLLIN)
        due = time.monotonic()
        self.output.event("started", pid=os.getpid(), heads=list(self.desired.heads))
        gc.collect()
        gc.freeze()
        gc.disable()
        while True:
            ready = dict(poll.poll(max(0.0, due - time.monotonic()) * 1000))
            # Read first, then judge silence: a heartbeat may be waiting.
            self._hear()
            if self._kernel.fileno() in ready:
                self._links(self._changes())
            if 0 in ready and not self._orders():
                return
            before = self._memory
            self._plan()
            now = time.monotonic()
            changed = before.number != self._memory.number
            if changed or now >= due:
                self._send()
                due = now + self._interval_s
            self.output.flush()

    def _changes(self) -> Iterable[netlink.Message]:
        try:
            return [*netlink.read(self._kernel)]
        except OSError:  # the kernel dropped some: ask for all
            return netlink.dump()

    def _links(self, messages: Iterable[netlink.Message]) -> None:
        for message in messages:
            if isinstance(message, netlink.Link) and message.name in self._cables:
                head = self._cables[message.name]
                (self._dark.discard if message.live else self._dark.add)(head)

    def _hear(self) -> None:
        while True:
            try:
                data, peer = self._socket.recvfrom(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                continue  # ICMP error for a datagram to a head that is off
            head = self._heads.get(peer[0])
            if head is None:
                continue
            told, now = json.loads(data), time.monotonic()
            old = self._beats.get(head)
            if old and old.boot == told["boot"] and now - old.t > self._quiet.get(head, 0.0):
                self._quiet[head] = now - old.t
                if now - old.t > 2 * self._interval_s:
                    self.output.event("silence", head=head, ms=round((now - old.t) * 1000, 1))
            self._beats[head] = Beat(
                t=now,
                boot=told["boot"],
                addresses=frozenset(told["addresses"]),
                applied=int(told["applied"]) if told["epoch"] == self._epoch else 0,
                live=bool(told["live"]),
            )
            self._connections[head] = [(h, p, a) for h, p, a in told["connections"]]
            if head in self._off and told["boot"] != self._off[head]:
                del self._off[head]

    def _plan(self) -> None:
        observed = Observed(time.monotonic(), self._beats, self._off, frozenset(self._dark))
        before = self._memory
        self._memory, actions = plan(self.desired, observed, before)
        for action in actions:
            if isinstance(action, Fence):
                self.output.event("fence", head=action.head, cause=action.cause)
            else:
                self.output.event("no-head-left")
        for head, state in self._memory.states.items():
            if state != before.states.get(head):
                self.output.event(f"head-{state}", head=head)
        for address, head in self._memory.placed.items():
            if before.placed.get(address) not in (None, head):
                self.output.event("move", address=address, head=head)
        self._tell_settled()

    def _tell_settled(self) -> None:
        placed = self._memory.placed
        settled = bool(placed) and all(
            head in self._beats and address in self._beats[head].addresses
            for address, head in placed.items()
        )
        if settled and not self._settled:
            self.output.event("settled", placed=dict(placed))
        self._settled = settled

    def _send(self) -> None:
        for head, order in self._memory.orders.items():
            if self._memory.states.get(head) == "off":
                continue
            text = {
                "epoch": self._epoch,
                "number": order.number,
                "addresses": sorted(order.addresses),
                "connections": [
                    connection
                    for other, known in self._connections.items()
                    for connection in known
                    if other != head and connection[2] in order.addresses
                ],
            }
            try:
                self._socket.sendto(json.dumps(text).encode(), self._peers[head])
            except OSError:
                continue  # it is repeated

    def _orders(self) -> bool:
        """Read orders from standard input; False at its end."""
        data = os.read(0, 1 << 16)
        *lines, self._typed = (self._typed + data).split(b"\n")
        for line in filter(None, lines):
            try:
                self._obey(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                self.output.event("refused", line=line.decode(errors="replace"), message=str(error))
        return bool(data)

    def _obey(self, order: dict[str, Any]) -> None:
        command = order["command"]
        if command == "status":
            quiet = {head: round(s * 1000, 1) for head, s in self._quiet.items()}
            states = dict(self._memory.states)
            self.output.event(
                "status", heads=states, placed=dict(self._memory.placed), longest_silence_ms=quiet
            )
            return
        if command not in ("fenced", "move"):
            raise ValueError(f"an array with heads knows no such order; it knows {ORDERS}")
        head = order["head"]
        if head not in self.desired.heads:
            raise ValueError(f"{head!r} is not one of {', '.join(self.desired.heads)}")
        if command == "fenced":
            beat = self._beats.get(head)
            self._off[head] = beat.boot if beat else ""
        else:
            if self._memory.states.get(head) != "up":
                raise ValueError(f"{head} cannot take addresses: {self._memory.states.get(head)}")
            chosen = order.get("addresses", list(self.desired.homes))
            placed = {**self._memory.placed, **dict.fromkeys(chosen, head)}
            if set(placed) != set(self.desired.homes):
                raise ValueError(f"{chosen}: some of these are not addresses of the array")
            self._memory = replace(self._memory, placed=placed)
        self.output.event("order", **order)


def main() -> int:
    """Run the controller that the command line names; returns the exit status."""
    if len(sys.argv) != 2:
        print("usage: python3 -m lab.controller.heads CONFIG.json", file=sys.stderr)
        return 2
    content = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        held = lock(content["array"])
    except LabError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    hurry()
    Service(content, Output(content["array"])).run()
    held.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
