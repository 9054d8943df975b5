"""The orders that stand: what the array keeps of them, and hands to each new controller."""

from __future__ import annotations

from typing import Any

from lab.timeline import Event


class StandingOrders:
    """Which ports are drained, and where the virtual address was ordered to.

    An order counts once the controller has said that it follows it. It stands until another order
    takes it back, whatever dies meanwhile: the controller, or the power of the array.
    """

    def __init__(self) -> None:
        self._drained: frozenset[str] = frozenset()
        self._virtual_at: str | None = None

    def hear(self, event: Event) -> None:
        """Take in what the controller said; all but its orders is passed over."""
        if event.get("what") != "order":
            return
        if event["command"] == "move-vip":
            self._virtual_at = event.get("port")
        elif event["command"] == "drain":
            self._drained |= {event["port"]}
        elif event["command"] == "undrain":
            self._drained -= {event["port"]}

    def config(self) -> dict[str, Any]:
        """What the controller's configuration says of them (lab/controller/config.py)."""
        return {"drained": sorted(self._drained), "virtual_at": self._virtual_at}
