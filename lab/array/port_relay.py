"""The relay at the data ports: it sends hosts the iSCSI messages that no engine can send."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab.array.site import Site
from lab.portal import Portal
from lab.timeline import Event, Timeline
from lab.topology.topology import ArraySpec
from targets.relay.process import RelayProcess

GRACE_S = 5
"""Seconds that a host has to log out (Parameter3 of Async Message event 1, RFC 7143 11.9.1)."""


class PortRelay(RelayProcess):
    """The relay at all data ports of the array `spec`; the engine behind it is at `backend`.

    Transparent until it gets an order. Its events go to `timeline`.
    """

    def __init__(
        self, site: Site, spec: ArraySpec, backend: str, logs: Path, timeline: Timeline
    ) -> None:
        ports = [
            {
                "name": port.name,
                "listen": [str(Portal(str(address.ip))) for address in port.addresses],
                "backend": backend,
            }
            for port in spec.ports
        ]
        config = {"name": spec.name, "ports": ports}
        super().__init__(site, config, logs, lambda event: timeline.extend([event]))

    def obey(self, event: Event) -> None:
        """Ask the host in the controller's event `ask-to-move` to log out; do not wait for it."""
        self.tell("async", event=1, parameter3=GRACE_S, select={"peer": event["initiator"]})

    def ask(self, host: str, **message: Any) -> dict[str, Any]:
        """Send the host at address `host` an Async Message, by default event 1 (asks for logout).

        `message`: fields of the relay's command `async` (targets/relay/rules.py).
        """
        order = {"event": 1, "parameter3": GRACE_S, **message}
        return self.command("async", select={"peer": host}, **order)

    def misdirect(self, host: str, count: int | None, **answer: Any) -> dict[str, Any]:
        """Answer the next `count` logins (None: all) of the host at address `host` with `answer`.

        `answer`: `status`, such as "0x0101", and `target_address` (None: no such key).
        """
        return self.command("answer-login", select={"peer": host}, count=count, **answer)
