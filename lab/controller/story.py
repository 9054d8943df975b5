"""Turns the controller's actions into timeline events."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from lab.controller.model import (
    Action,
    AddAddress,
    AskToMove,
    Memory,
    NoPortLeft,
    Redirect,
    RemoveAddress,
)
from lab.controller.output import Output

WHAT = {"up": "port-up", "down": "port-down", "suspect": "suspect", "holding-off": "holding-off"}


class Story:
    """Turns plans and their results into events."""

    def __init__(self, output: Output) -> None:
        self._event = output.event
        self._moves: dict[str, dict[str, Any]] = {}
        self._settled = False

    def tell(
        self, noticed: float | None, before: Memory, after: Memory, actions: Sequence[Action]
    ) -> None:
        """Tell of a plan whose lines ip has got; its cause was `noticed` at these Unix seconds."""
        if not actions and before.ports == after.ports:
            return
        now = time.time()
        for name, port in after.ports.items():
            old = before.ports.get(name)
            if old is None or old.state != port.state:
                self._event(WHAT[port.state], noticed, port=name, cause=port.cause)
        added = {a.address for a in actions if isinstance(a, AddAddress)}
        removed: dict[str, str] = {}
        for action in actions:
            if isinstance(action, RemoveAddress):
                removed[action.address] = action.port
                if action.address not in added:
                    what = "repaired" if action.cause == "repair" else "removed"
                    self._moves.pop(action.address, None)
                    self._event(
                        what, now, address=action.address, port=action.port, cause=action.cause
                    )
            elif isinstance(action, AddAddress):
                source = removed.get(action.address) or before.placed.get(action.address)
                self._moves[action.address] = {
                    "from": source,
                    "to": action.port,
                    "cause": action.cause,
                    "detected_t": round(noticed or now, 6),
                    "acted_t": round(now, 6),
                }
            elif isinstance(action, Redirect):
                self._event("redirect", now, initiator=action.initiator, address=action.address)
            elif isinstance(action, AskToMove):
                self._event(
                    "ask-to-move",
                    now,
                    initiator=action.initiator,
                    **{"from": action.source, "to": action.to},
                )
            elif isinstance(action, NoPortLeft):
                self._event("no-port-left", noticed)
        if added or removed or after.none_left:
            self._settled = False

    def gained(self, address: str, owner: str) -> None:
        """Tell that `owner` has `address` now, by the kernel."""
        move = self._moves.get(address)
        if move and move["to"] == owner:
            del self._moves[address]
            what = "repaired" if move["cause"] == "repair" else "moved"
            self._event(what, address=address, **move)

    def settled(self, memory: Memory, owners: Mapping[str, frozenset[str]]) -> None:
        """Tell once that nothing is left to do."""
        if not self._settled and not memory.none_left:
            self._settled = True
            places = {address: sorted(names) for address, names in owners.items()}
            self._event("settled", owners=places)
