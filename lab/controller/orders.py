"""Orders on standard input, and the desired array that results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lab.controller.model import Desired, State


class Orders:
    """The desired array: the configuration, changed by the orders so far.

    Orders last as long as the process. After a restart a supervisor gives them again, or writes
    them in the configuration (`drained`, `virtual_at`).
    """

    def __init__(self, desired: Desired) -> None:
        self._configured = desired
        self.desired = desired

    def obey(self, order: Mapping[str, Any], states: Mapping[str, State]) -> None:
        """Follow one order; raises ValueError with the reason if it is impossible.

        move-vip: `port` becomes the home of the virtual addresses (no port: the configured home).
        drain: addresses leave `port`. undrain: they may come back. rebalance: even out the
        sessions.
        """
        command = order["command"]
        port: str | None = None
        if command in ("drain", "undrain") or order.get("port") is not None:
            port = str(order.get("port"))
            if port not in self.desired.ports:
                raise ValueError(f"{port!r} is not one of {', '.join(self.desired.ports)}")
        now = self.desired
        if command == "move-vip":
            if port is not None and (states.get(port) != "up" or port in now.drained):
                why = "drained" if port in now.drained else states.get(port, "not known yet")
                raise ValueError(f"{port} cannot take the virtual address: it is {why}")
            homes = {a.address: a.home for a in self._configured.addresses}
            addresses = tuple(
                replace(a, home=port or homes[a.address]) if a.virtual else a for a in now.addresses
            )
            self.desired = replace(now, addresses=addresses)
        elif command == "drain" and port:
            asks = now.mode == "redirect-only"  # in takeover mode sessions move with addresses
            self.desired = replace(
                now, drained=now.drained | {port}, rebalances=now.rebalances + asks
            )
        elif command == "undrain" and port:
            self.desired = replace(now, drained=now.drained - {port})
        elif command == "rebalance":
            self.desired = replace(now, rebalances=now.rebalances + 1)
        else:
            known = "move-vip, drain, undrain, rebalance, status"
            raise ValueError(f"{command!r} is not one of {known}")
