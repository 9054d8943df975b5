"""The standing orders, which the array keeps and gives to each new controller."""

from __future__ import annotations

from typing import Any

from lab.timeline import Event


class StandingOrders:
    """Which ports are drained, and where the virtual address was ordered to.

    An order counts once the controller has confirmed it. It stands until another order revokes it,
    also when the controller dies or the array loses power.
    """

    def __init__(self) -> None:
        self._drained: frozenset[str] = frozenset()
        self._virtual_at: str | None = None

    def hear(self, event: Event) -> None:
        """Record an order that the controller confirms; other events are ignored."""
        if event.get("what") != "order":
            return
        if event["command"] == "move-vip":
            self._virtual_at = event.get("port")
        elif event["command"] == "drain":
            self._drained |= {event["port"]}
        elif event["command"] == "undrain":
            self._drained -= {event["port"]}

    def config(self) -> dict[str, Any]:
        """Their keys in the controller's configuration (lab/controller/config.py)."""
        return {"drained": sorted(self._drained), "virtual_at": self._virtual_at}
