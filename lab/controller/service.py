"""The reconciler: observe the kernel, plan, act, observe again. One loop, one thread.

It plans only when `ip` has finished all lines, so every plan rests on the kernel's actual state.
It can be killed at any line: a new start reads the state back from the kernel.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import socket
import time
from dataclasses import replace
from typing import Any

from lab.controller.addresses import (
    Failure,
    Hands,
    action_lines,
    add_rules6,
    flush_line,
    lasting_lines,
    route_line,
    rule_lines,
)
from lab.controller.announce import Announcer
from lab.controller.config import Config
from lab.controller.model import (
    Action,
    Memory,
    Observed,
    Redirect,
    Verdict,
)
from lab.controller.netlink import Connections
from lab.controller.orders import Orders
from lab.controller.output import Output, Steering
from lab.controller.planner import next_look, plan
from lab.controller.probe import Prober
from lab.controller.story import Story
from lab.controller.watch import Changes, Watch

SESSIONS_S = 0.2
BUSY_S = 0.02
COLLECT_S = 30.0
RETRY_S = (0.05, 0.1, 0.2, 0.5, 1.0)


class Service:
    """The controller of one array; `lock` ensures that there is no other."""

    def __init__(self, config: Config, lock: socket.socket, output: Output) -> None:
        self.config, self.output = config, output
        self.watch = Watch(config)
        self.hands = Hands(keep=[lock.fileno()])
        self.announcer = Announcer()
        self.connections = Connections()
        self.steering = Steering(config.steering)
        names = list(config.interfaces)
        self.prober = Prober(names, config.probe) if config.probe else None
        self.orders = Orders(config)
        self.story = Story(output)
        self.memory = Memory()
        self.verdicts: dict[str, Verdict] = {}
        self.sessions: dict[tuple[str, str], int] = {}
        self.routes_wanted: set[str] = set(names)
        self.rules_wanted = True
        self.dead: set[str] = set()
        self.dirty = True
        self.noticed: float | None = None
        self.expected: dict[str, frozenset[str]] = {}
        self.refused = 0
        self.not_before = 0.0
        now = time.monotonic()
        self.next_tick = self.next_sessions = now
        self.next_collect = now + COLLECT_S
        self._selector = selectors.DefaultSelector()
        self._ended = False
        self._typed = b""

    def run(self) -> None:
        """Serve until standard input ends."""
        register = self._selector.register
        register(self.watch, selectors.EVENT_READ, self._kernel)
        hands = register(self.hands, selectors.EVENT_READ, self._hands)
        try:
            register(0, selectors.EVENT_READ, self._order)
        except PermissionError:  # standard input is a file: treat it as ended
            self._ended = True
        for name in self.config.interfaces:
            self._port(name)
        self.output.event("started", pid=os.getpid(), ports=list(self.config.interfaces))
        for address, owners in self.watch.owners().items():
            for owner in owners:
                self.announcer.announce(address, owner, time.monotonic())
        writing = False
        starts = self.hands.starts
        gc.collect()
        gc.freeze()
        gc.disable()
        while not self._ended:
            self._step()
            # While ip works, write nothing: announcing its changes comes first.
            left = writing if self.hands.busy else self.output.flush()
            if left != writing:
                writing = left
                if writing:
                    register(1, selectors.EVENT_WRITE, lambda: None)
                else:
                    self._selector.unregister(1)
            ready = self._selector.select(self._timeout())
            for key, _ in ready:
                key.data()
            if self.hands.starts != starts:
                starts = self.hands.starts
                self._selector.unregister(hands.fd)
                hands = register(self.hands, selectors.EVENT_READ, self._hands)
            self._step()
            if not self.hands.busy or not ready:
                self._timers(time.monotonic())
        self.output.flush()

    # Events that wake the loop

    def _kernel(self) -> None:
        self._seen(self.watch.update())

    def _seen(self, changes: Changes) -> None:
        for name in changes.links | changes.up:
            self._port(name)
        now = time.monotonic()
        for address, owner in changes.gained:
            self.announcer.announce(address, owner, now)
            self.story.gained(address, owner)
        self.routes_wanted |= changes.up
        for name in changes.links:
            self.verdicts.pop(name, None)
            if not self.watch.links()[name]:
                self.dead.add(name)
            # Hosts that could not reach the port may have lost its neighbour entries.
            for address, owners in self.watch.owners().items():
                if name in owners and self.watch.links()[name]:
                    self.announcer.announce(address, name, now)
        if changes or changes.up:
            self._notice()

    def _notice(self) -> None:
        """Something changed: plan soon, and remember when the change was seen."""
        self.dirty = True
        self.noticed = self.noticed or time.time()

    def _port(self, name: str) -> None:
        link = self.watch.port(name)
        self.announcer.port(name, link)
        if self.prober:
            self.prober.port(name, link)

    def _hands(self) -> None:
        failures = self.hands.answers()
        if self.hands.busy:
            return
        # Kernel events come before ip's answer, except that a work queue sends those of new IPv6
        # addresses. If an owner is not as expected, ask the kernel.
        self._seen(self.watch.update())
        owners = self.watch.owners()
        if any(owners[address] != wanted for address, wanted in self.expected.items()):
            self._seen(self.watch.resync())
        self.expected = {}
        self.dirty = True
        self._refusals([f for f in failures if not f.line.startswith("rule add")])

    def _refusals(self, failures: list[Failure]) -> None:
        if not failures:
            self.refused = 0
            return
        wait = RETRY_S[min(self.refused, len(RETRY_S) - 1)]
        self.refused += 1
        self.not_before = time.monotonic() + wait
        for failure in failures:
            self.output.event("refused", line=failure.line, message=failure.message)

    def _order(self) -> None:
        data = os.read(0, 1 << 16)
        if not data:
            self._ended = True
            return
        *lines, self._typed = (self._typed + data).split(b"\n")
        for line in filter(None, (line.strip() for line in lines)):
            self._obey(line)

    def _obey(self, line: bytes) -> None:
        try:
            order: dict[str, Any] = json.loads(line)
            if order["command"] == "status":
                self.output.event("status", **self._status())
                return
            states = {name: port.state for name, port in self.memory.ports.items()}
            self.orders.obey(order, states)
        except (ValueError, KeyError, TypeError) as error:
            text = line.decode(errors="replace")
            self.output.event("refused", line=text, message=str(error))
            return
        self.output.event("order", **order)
        self._notice()

    def _status(self) -> dict[str, Any]:
        return {
            "ports": {name: port.state for name, port in self.memory.ports.items()},
            "owners": {a: sorted(owners) for a, owners in self.watch.owners().items()},
            "choices": dict(self.memory.choices),
            "sessions": [[*pair, count] for pair, count in sorted(self.sessions.items())],
            "drained": sorted(self.orders.desired.drained),
        }

    # Timers

    def _timeout(self) -> float:
        if self.hands.busy:
            return BUSY_S
        due = [self.next_sessions, self.next_collect, self.announcer.next_due()]
        due.append(self.next_tick if self.prober else None)
        due.append(self.not_before if self.dirty else None)
        due.append(next_look(self.orders.desired, self.memory))
        return max(0.0, min(d for d in due if d is not None) - time.monotonic())

    def _timers(self, now: float) -> None:
        if self.prober and now >= self.next_tick:
            self.next_tick = max(self.next_tick + self.prober.interval_s, now)
            if now >= self.next_tick:
                self.next_tick = now + self.prober.interval_s
            hosts = list(dict.fromkeys([*self.config.desired.initiators, *self._peers()]))
            verdicts = self.prober.tick(self.watch.links(), hosts)
            if verdicts != self.verdicts:
                self._notice()
            self.verdicts = verdicts
            if rejected := self.prober.rejected.report(now):
                self.output.event("control-rejected", counts=rejected)
        due = self.announcer.next_due()
        if due is not None and now >= due:
            self.announcer.repeat(now, self.watch.owners())
        look = next_look(self.orders.desired, self.memory)
        self.dirty |= look is not None and now >= look
        if self.hands.busy:
            self.hands.end_if_stuck()
            return
        if self.dirty and now >= self.not_before:
            return
        # The rest can wait for a quiet moment.
        if now >= self.next_sessions:
            self.next_sessions = now + SESSIONS_S
            sessions = self.connections.count()
            self.dirty |= sessions != self.sessions
            self.sessions = sessions
        if now >= self.next_collect:
            self.next_collect = now + COLLECT_S
            gc.collect()

    def _peers(self) -> list[str]:
        return sorted({remote for remote, _ in self.sessions})

    # Plan and act

    def _step(self) -> None:
        now = time.monotonic()
        if not self.dirty or self.hands.busy or now < self.not_before:
            return
        self.dirty = False
        observed = Observed(
            now=now,
            links=self.watch.links(),
            owners=self.watch.owners(),
            verdicts=self.verdicts,
            sessions=self.sessions,
        )
        before = self.memory
        self.memory, actions = plan(self.orders.desired, observed, before)
        self._steer(actions)
        lines, self.expected = action_lines(self.config, actions, self.watch.prefix)
        self.hands.act(lines)
        self.story.tell(self.noticed, before, self.memory, actions)
        self.noticed = None
        if not lines:
            self._upkeep()

    def _steer(self, actions: list[Action]) -> None:
        """Write login answers before any address moves: none may name a dead port."""
        for action in actions:
            if isinstance(action, Redirect):
                try:
                    self.steering.write(action.initiator, action.address)
                except OSError as error:
                    self.output.event("refused", line=str(action), message=str(error))
                    choices = dict(self.memory.choices)
                    choices.pop(action.initiator, None)  # so that the next plan tries again
                    self.memory = replace(self.memory, choices=choices)

    def _upkeep(self) -> None:
        """When all addresses are in place: drop packets queued at dead ports, and add rules and
        routes that may be missing."""
        lines = [flush_line(self.config.interfaces[name]) for name in sorted(self.dead)]
        self.dead = set()
        if self.rules_wanted:
            self.rules_wanted = False
            lines += [*rule_lines(self.config, 4), *lasting_lines(self.config)]
            add_rules6(rule_lines(self.config, 6))
        names, self.routes_wanted = self.routes_wanted, set()
        live = self.watch.links()
        for address, owners in self.watch.owners().items():
            for owner in owners & names:
                if live.get(owner):
                    interface = self.config.interfaces[owner]
                    lines.append(route_line(self.config.places[address], interface))
        self.hands.act(lines)
        if not self.hands.busy:
            self.story.settled(self.memory, self.watch.owners())
