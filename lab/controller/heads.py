"""`python3 -m lab.controller.heads CONFIG.json`: the controller of an array with heads.

It runs outside the heads and hears them on the management network (head_agent.py);
heads_planner.py decides what to do. It cannot cut power itself: a `fence` event on standard output
asks for it, and {"command": "fenced", "head": ..., "boot": ...} on standard input confirms it, as a
power distribution unit would. `boot` is the boot that was ended: the confirmation of an earlier
power cut says nothing of a head that has booted since.

The first line of standard input is the key of the run (sealed.py); the heads have it as well. A
heartbeat counts only if it answers a frame of this controller, and renews the lease of its head.
Events and exit status are those of lab.controller.
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
from dataclasses import dataclass, replace
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
from lab.controller.sealed import (
    BEAT,
    CONTROLLER,
    ORDER,
    READS,
    Frame,
    Refused,
    Rejected,
    opened,
    read_key,
    seal,
)
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
        margin_s=float(content["lease_margin_ms"]) / 1000,
    )


@dataclass(frozen=True)
class Heard:
    """The last heartbeat taken of a head: its boot and number, received at `t`, and the number of
    the frame of ours that it `answers`."""

    boot: int
    number: int
    t: float
    answers: int


def beat_of(frame: Frame, epoch: int, before: Heard | None) -> dict[str, Any] | None:
    """The heartbeat in `frame`, None if it answers no frame of `epoch` yet.

    Refused if it is not one after `before`: later frames of a head, of whatever boot, answer later
    frames of ours.
    """
    beat: dict[str, Any] = json.loads(frame.body)
    its, answers = beat["answers"]
    if its != epoch:
        return None
    if before and before.boot == frame.boot and frame.number <= before.number:
        raise Refused("seen before")
    if before and before.boot != frame.boot and answers <= before.answers:
        raise Refused("of another boot")
    return beat


class Service:
    """The controller that the configuration `content` describes."""

    def __init__(self, content: dict[str, Any], key: bytes, output: Output) -> None:
        self.output, self.desired, self._key = output, desired(content), key
        self._peers = {head: tuple(peer) for head, peer in content["heads"].items()}
        self._names = list(self._peers)
        self._interval_s = float(content["interval_ms"]) / 1000
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((content["listen"][0], content["listen"][1]))
        self._socket.setblocking(False)
        self._epoch = time.time_ns()
        self._memory = Memory(time.monotonic())
        self._sent = 0
        self._heard: dict[str, Heard] = {}
        self._rejected = Rejected()
        # The controller before this one may have renewed a lease until now.
        self._lease_s = float(content["lease_ms"]) / 1000
        self._leased = dict.fromkeys(self._names, time.monotonic() + self._lease_s)
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
            if rejected := self._rejected.report(now):
                self.output.event("control-rejected", counts=rejected)
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
        for _ in range(READS):
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                continue  # ICMP error for a datagram to a head that is off
            try:
                self._take(opened(self._key, BEAT, data))
            except Refused as refused:
                self._rejected.note(str(refused))

    def _take(self, frame: Frame) -> None:
        """Take a frame of a head; Refused if it is not new."""
        if frame.sender >= len(self._names):
            raise Refused("of another sender")
        head, now = self._names[frame.sender], time.monotonic()
        old = self._heard.get(head)
        told = beat_of(frame, self._epoch, old)
        if told is None:
            return
        self._heard[head] = Heard(frame.boot, frame.number, now, told["answers"][1])
        if old and old.boot == frame.boot and now - old.t > self._quiet.get(head, 0.0):
            self._quiet[head] = now - old.t
            if now - old.t > 2 * self._interval_s:
                self.output.event("silence", head=head, ms=round((now - old.t) * 1000, 1))
        boot = f"{frame.boot:016x}"
        self._beats[head] = Beat(
            t=told["answers"][1] / 1e9,
            boot=boot,
            addresses=frozenset(told["addresses"]),
            applied=int(told["applied"]) if told["epoch"] == self._epoch else 0,
            live=bool(told["live"]),
        )
        self._connections[head] = [(h, p, a) for h, p, a in told["connections"]]
        if head in self._off and boot != self._off[head]:
            del self._off[head]

    def _plan(self) -> None:
        observed = Observed(
            time.monotonic(), self._beats, self._off, frozenset(self._dark), self._leased
        )
        before = self._memory
        self._memory, actions = plan(self.desired, observed, before)
        for action in actions:
            if isinstance(action, Fence):
                self.output.event("fence", head=action.head, boot=action.boot, cause=action.cause)
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
        for head, peer in self._peers.items():
            order = self._memory.orders.get(head)
            addresses = order.addresses if order else frozenset[str]()
            text = {
                "to": head,
                "grant": self._grant(head),
                # Without an order yet, a head is only asked to answer.
                "number": order.number if order else None,
                "addresses": sorted(addresses),
                "connections": [
                    connection
                    for other, known in self._connections.items()
                    for connection in known
                    if other != head and connection[2] in addresses
                ],
            }
            # Its number is its time: a heartbeat that names it tells how old it is.
            self._sent = max(self._sent + 1, time.monotonic_ns())
            frame = Frame(CONTROLLER, self._epoch, self._sent, json.dumps(text).encode())
            try:
                self._socket.sendto(seal(self._key, ORDER, frame), peer)
            except OSError:
                continue  # it is repeated

    def _grant(self, head: str) -> tuple[int, int] | None:
        """The heartbeat of `head` from which its lease runs anew, None to let the lease run out."""
        heard = self._heard.get(head)
        if heard is None or self._memory.states.get(head) not in ("up", "dark"):
            return None
        # The head sent it before it was received, so the lease ends before this.
        self._leased[head] = max(self._leased[head], heard.t + self._lease_s)
        return heard.boot, heard.number

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
            beat, ended = self._beats.get(head), str(order["boot"])
            if beat and beat.boot != ended:
                raise ValueError(f"{head} has booted since: {beat.boot} is not {ended}")
            self._off[head] = ended
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
        key = read_key()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        held = lock(content["array"])
    except LabError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    hurry()
    Service(content, key, Output(content["array"])).run()
    held.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
