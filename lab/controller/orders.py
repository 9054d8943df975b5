"""Orders on standard input and the desired state that results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lab.controller.config import Config
from lab.controller.model import State


class Orders:
    """The desired state: the configuration, changed by the orders so far.

    An `order` event tells the array's supervisor which orders were followed. It writes them to the
    configuration of a restarted controller (`drained`, `virtual_at`).
    """

    def __init__(self, config: Config) -> None:
        self._homes = config.homes
        # The last controller may have died before all hosts left a drained port: ask again.
        asks = config.desired.mode == "redirect-only" and bool(config.desired.drained)
        self.desired = replace(config.desired, rebalances=int(asks))

    def obey(self, order: Mapping[str, Any], states: Mapping[str, State]) -> None:
        """Follow one order; raises ValueError with the reason if it is impossible.

        move-vip: `port` becomes the home of the virtual addresses (None: the configured home).
        drain: addresses leave `port`; undrain: they may come back. rebalance: balance the sessions.
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
            addresses = tuple(
                replace(a, home=port or self._homes[a.address]) if a.virtual else a
                for a in now.addresses
            )
            self.desired = replace(now, addresses=addresses)
        elif command == "drain" and port:
            asks = now.mode == "redirect-only"  # else sessions move with the addresses
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
