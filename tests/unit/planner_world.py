"""A small world for the planner: ports, a kernel with addresses, somebody with a keyboard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lab.controller.model import (
    Action,
    AddAddress,
    Address,
    Desired,
    Memory,
    Observed,
    Redirect,
    RemoveAddress,
    Verdict,
)
from lab.controller.planner import next_look, plan

Plan = Callable[[Desired, Observed, Memory], tuple[Memory, list[Action]]]
PORTS = ("p1", "p2", "p3")
HOSTS = ("10.0.0.101", "10.0.0.102", "10.0.0.103", "fd00::101")
ADDRESSES = (
    Address("10.0.0.1", "p1", virtual=True),
    Address("fd00::1", "p1", virtual=True),
    *(Address(f"10.0.0.{10 + i}", f"p{i}") for i in (1, 2, 3)),
    *(Address(f"fd00::{10 + i}", f"p{i}") for i in (1, 2, 3)),
)
HOLD = 5.0
ROUNDS = 3
"""So many plans, the last of them without an action, and everything is in place."""


def desired(**changes) -> Desired:
    return replace(
        Desired(ports=PORTS, addresses=ADDRESSES, initiators=HOSTS, hold_s=HOLD), **changes
    )


class World:
    """Executes what `plan` says, one action at a time, and checks after each what must hold."""

    def __init__(self, plan_: Plan = plan, **changes) -> None:
        self.plan = plan_
        self.desired = desired(**changes)
        self.now = 100.0
        self.links = dict.fromkeys(PORTS, True)
        self.verdicts: dict[str, Verdict] = dict.fromkeys(PORTS, "ok")
        self.owners = {a.address: {a.home} for a in ADDRESSES}
        self.sessions: dict[tuple[str, str], int] = {}
        self.memory: Memory | None = Memory()
        self.actions: list[Action] = []
        self.by_hand = False
        # What controllers have seen so far, to judge hold times by.
        self._seen = dict.fromkeys(PORTS, True)
        self._returned = dict.fromkeys(PORTS, float("-inf"))
        self._started = self.now

    def live(self, port: str) -> bool:
        return self.links.get(port, False) and self.verdicts[port] != "silent"

    def any_live(self) -> bool:
        return any(self.live(p) for p in PORTS)

    def observed(self) -> Observed:
        owners = {a: frozenset(o) for a, o in self.owners.items()}
        return Observed(
            self.now, dict(self.links), owners, dict(self.verdicts), dict(self.sessions)
        )

    def crash(self) -> None:
        self.memory = None

    def start(self) -> None:
        if self.memory is None:
            self.memory, self._started = Memory(), self.now

    def step(self, die_after: int | None = None) -> bool:
        """One plan, executed to its end or to `die_after` actions; True if nothing was to do."""
        if self.memory is None:
            return True
        for port in PORTS:
            if self.live(port) and not self._seen[port]:
                self._returned[port] = self.now
            self._seen[port] = self.live(port)
        memory, actions = self.plan(self.desired, self.observed(), self.memory)
        self.actions += actions
        kinds = [isinstance(a, Redirect) for a in actions]
        assert kinds == sorted(kinds, reverse=True), "an address moves before logins are steered"
        moves = [a for a in actions if isinstance(a, AddAddress | RemoveAddress)]
        before = {a: set(o) for a, o in self.owners.items()}
        for done, action in enumerate(moves):
            if die_after is not None and done >= die_after:
                break
            self._execute(action, before)
        self.memory = memory
        if die_after is not None:
            self.crash()
        return not moves

    def _execute(self, action: AddAddress | RemoveAddress, before: dict[str, set[str]]) -> None:
        owners = self.owners[action.address]
        if isinstance(action, RemoveAddress):
            owners.discard(action.port)
            return
        owners.add(action.port)
        if not self.by_hand:
            assert len(owners) < 2, f"{action.address} has two owners: {sorted(owners)}"
            self._check_hold(action, before[action.address])

    def _check_hold(self, action: AddAddress, before: set[str]) -> None:
        """No move from a live port to one that came back less than the hold time ago."""
        port = action.port
        home = any(a.home == port and a.address == action.address for a in self.desired.addresses)
        # A controller that started later knows of the return only by what is not at home there,
        # which an order that made this port the home after the fact does not tell.
        known = (home and action.cause != "order") or self._started < self._returned[port]
        settled = [
            p
            for p in PORTS
            if self.live(p)
            and p not in self.desired.drained
            and self.now - self._returned[p] >= HOLD - 1e-6
        ]
        if known and settled and any(map(self.live, before)):
            since = self.now - self._returned[port]
            assert since >= HOLD - 1e-6, (
                f"{action.address} comes to {port} {since:g} s after it came back: "
                f"within the hold time"
            )

    def converge(self) -> None:
        if self.memory is None:
            return
        assert any(self.step() for _ in range(ROUNDS)), f"not in place after {ROUNDS} plans"
        self.by_hand = False
        for address in self.desired.addresses:
            self._check_place(address)
        if self.any_live():
            for initiator, choice in self.memory.choices.items():
                at = self.owners.get(choice, set()) if choice else set()
                assert choice is None or any(map(self.live, at)), (
                    f"{initiator} is sent to a dead port: {choice} at {sorted(at)}"
                )

    def _check_place(self, address: Address) -> None:
        owners = self.owners[address.address]
        shown = f"{address.address} at {sorted(owners)}"
        assert len(owners) < 2, f"{shown}: two owners"
        if not self.any_live():
            return
        assert all(map(self.live, owners)), f"{shown}: left on a dead port"
        if self.desired.mode == "redirect-only" and not address.virtual:
            assert owners <= {address.home}, f"{shown}: a data address moved"
            return
        assert owners, f"{shown}: nowhere, though a port is live"
        serving = [p for p in PORTS if self.live(p) and p not in self.desired.drained]
        assert owners <= set(serving or PORTS), f"{shown}: left on a drained port"

    def advance(self, seconds: float) -> None:
        """Let time pass, with the controller looking whenever it said that it would."""
        self.converge()
        end = self.now + seconds
        while self.memory is not None:
            look = next_look(self.desired, self.memory)
            if look is None or look > end:
                break
            assert look >= self.now - 1e-9 or not self.step(), "it wants to look for ever"
            self.now = max(self.now, look)
            self.converge()
        self.now = end
        assert self.step(), "time alone changed the plan, and it had not said when"
        self.converge()
