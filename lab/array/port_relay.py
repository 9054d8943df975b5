"""How the array asks its hosts: a relay at the data ports, which says what no engine can say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab.array.site import Site
from lab.portal import Portal
from lab.timeline import Event, Timeline
from lab.topology.topology import ArraySpec
from targets.relay.process import RelayProcess

GRACE_S = 5
"""Seconds that a host which is asked to log out has for it (Parameter3 of the Async Message)."""


class PortRelay(RelayProcess):
    """The relay at all data ports of the array `spec`; the engine behind it is at `backend`.

    Transparent until it is told otherwise. Each of its events is on `timeline`.
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
        """Ask the host that the controller's event `ask-to-move` names, and wait for nothing."""
        self.tell("async", event=1, parameter3=GRACE_S, select={"peer": event["initiator"]})

    def ask(self, host: str, **message: Any) -> dict[str, Any]:
        """Send the host at address `host` an Async Message: event 1 unless `message` says more.

        `message` has the fields of the relay's command `async` (targets/relay/rules.py).
        """
        order = {"event": 1, "parameter3": GRACE_S, **message}
        return self.command("async", select={"peer": host}, **order)

    def misdirect(self, host: str, count: int | None, **answer: Any) -> dict[str, Any]:
        """Answer the next `count` logins of the host at address `host` (None: all) by `answer`.

        `answer`: `status` ("0x0101") and `target_address`, None for no such key.
        """
        return self.command("answer-login", select={"peer": host}, count=count, **answer)
