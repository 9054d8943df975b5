"""The relay's process, for the lab: it takes commands and reports events."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.errors import BadInput, CommandFailed, LabError
from lab.waiting import wait_for
from targets.base import Place


class RelayProcess:
    """Starts `python3 -m targets.relay` at `place` and waits until it listens.

    `config` is its configuration (see targets/relay/service.py); its log goes to the folder `logs`.
    `on_event` gets each event as it comes in, from a thread of its own. LabError if the relay does
    not come up.
    """

    def __init__(
        self,
        place: Place,
        config: dict[str, Any],
        logs: Path,
        on_event: Callable[[dict[str, Any]], None] = lambda event: None,
    ) -> None:
        self.events: list[dict[str, Any]] = []
        self._on_event, self._ids = on_event, itertools.count(1)
        name = config.get("name", "relay")
        path, self._log = (
            place.put(f"{name}.relay.json", json.dumps(config)),
            logs / f"{name}.relay.log",
        )
        self._process = place.start_module(
            "targets.relay.service", str(path), log=self._log, on_line=self._take
        )
        wanted = sum(len(port["listen"]) for port in config["ports"])
        try:
            wait_for("the relay to listen", lambda: self._listening(wanted), seconds=10)
        except BaseException:
            self._process.kill()
            raise

    def _take(self, line: str) -> None:
        event = json.loads(line)
        self.events.append(event)
        self._on_event(event)

    def _listening(self, wanted: int) -> bool:
        if self._process.poll() is not None:
            raise LabError(f"the relay ended: {self._log.read_text(errors='replace')[-2000:]}")
        return len(self.found("listening")) == wanted

    def found(self, what: str) -> list[dict[str, Any]]:
        """The events of that name so far."""
        return [event for event in list(self.events) if event["what"] == what]

    def wait(self, what: str, count: int = 1, seconds: float = 10.0) -> dict[str, Any]:
        """The `count`th event of that name; WaitTimeout if it does not come within `seconds`."""
        found = wait_for(
            f"{what} no. {count}", lambda: self.found(what), until=lambda f: len(f) >= count,
            seconds=seconds, every=0.005,
        )  # fmt: skip
        return found[count - 1]

    def tell(self, command: str, **details: Any) -> None:
        """Give a command and do not wait; its result is an event."""
        self._process.send(json.dumps({"command": command, **details}))

    def command(self, command: str, **details: Any) -> dict[str, Any]:
        """Give a command and wait for its `done` event; BadInput if the relay refuses it."""
        number = next(self._ids)
        self._process.send(json.dumps({"command": command, "id": number, **details}))

        def answer() -> list[dict[str, Any]]:
            both = self.found("done") + self.found("refused")
            return [event for event in both if event.get("id") == number]

        event = wait_for(f"the relay to {command}", answer, seconds=10, every=0.002)[0]
        if event["what"] == "refused":
            raise BadInput(f"relay: {command}: {event['reason']}")
        return event

    def stop(self) -> None:
        """Close its input: the relay ends its connections and itself. SIGKILL if it hangs."""
        self._process.close_input()
        try:
            self._process.wait(5.0)
        except CommandFailed:
            self._process.kill()
