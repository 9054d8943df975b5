"""The commands of a relay: one JSON object each, answered by a `done` or `refused` event."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

from targets.relay.link import Link
from targets.relay.rules import (
    ACTIONS,
    CommandError,
    Json,
    Rule,
    async_from,
    number,
    one_of,
    rule_from,
    select_from,
)

LINE = 65536
"""Most characters of a command."""


class Commanded(Protocol):
    """The relay that carries out commands."""

    rules: list[Rule]
    links: dict[int, Link]

    def event(self, where: str, what: str, **details: Any) -> None:
        """Record an event."""

    def refresh(self) -> None:
        """The rules have changed."""


class Control:
    """Carries out commands. A wrong command gets the event `refused`; nothing is raised."""

    def __init__(self, relay: Commanded) -> None:
        self._relay = relay
        self._last_rule = 0
        self._known: dict[str, Callable[[Json], Json]] = {
            "async": self._async,
            "drop": self._drop,
            "clear": self._clear,
            "status": self._status,
            **dict.fromkeys(ACTIONS, self._rule),
        }

    def line(self, text: str) -> None:
        """Carry out one line of input."""
        order: Any = None
        try:
            if len(text) > LINE:
                raise CommandError(f"a command of more than {LINE} characters")
            order = json.loads(text)
            if not isinstance(order, dict):
                raise CommandError("a command is a JSON object")
            self.do(order)
        except (CommandError, json.JSONDecodeError, RecursionError) as error:
            named = order if isinstance(order, dict) else {}
            self._relay.event(
                "",
                "refused",
                command=named.get("command"),
                id=named.get("id"),
                reason=str(error),
            )

    def do(self, order: Json) -> None:
        """Carry out one command; CommandError if it is wrong, and then nothing is done."""
        name = order.get("command")
        act = self._known.get(name) if isinstance(name, str) else None
        if not act:
            raise CommandError(f"command: {name!r} is not one of {', '.join(sorted(self._known))}")
        result = act(order)
        self._relay.event("", "done", command=name, id=order.get("id"), **result)

    def _meant(self, order: Json) -> list[Link]:
        select = select_from(order)
        links = [x for x in self._relay.links.values() if not x.ending]
        return [x for x in links if select.matches(x.session.facts)]

    def _rule(self, order: Json) -> Json:
        rule = rule_from(order, self._last_rule + 1)
        self._last_rule = rule.number
        self._relay.rules.append(rule)
        self._relay.refresh()
        return {"rule": rule.number}

    def _async(self, order: Json) -> Json:
        message = async_from(order)
        asked = [x.session.facts.connection for x in self._meant(order) if x.ask(message)]
        return {"connections": asked}

    def _drop(self, order: Json) -> Json:
        how = one_of(order, "how", "fin", ("fin", "reset"))
        links = self._meant(order)
        for link in links:
            if how == "reset":
                link.close("dropped", reset=True)
            else:
                link.hang_up("dropped")
        return {"connections": [x.session.facts.connection for x in links]}

    def _clear(self, order: Json) -> Json:
        wanted = number(order, "rule", None, 1, 1 << 53, True)
        cleared = [r.number for r in self._relay.rules if wanted in (None, r.number)]
        self._relay.rules[:] = [r for r in self._relay.rules if r.number not in cleared]
        self._relay.refresh()
        return {"rules": cleared}

    def _status(self, order: Json) -> Json:
        links = [
            {
                "connection": x.session.facts.connection,
                "port": x.session.facts.port,
                "peer": x.session.facts.peer,
                "initiator": x.session.facts.initiator,
                "target": x.session.facts.target,
                "session": x.session.facts.session,
                "full_feature": x.session.full_feature,
                "bytes_to_target": x.up.bytes,
                "bytes_to_initiator": x.down.bytes,
            }
            for x in self._meant(order)
        ]
        rules = [
            {"rule": r.number, "command": r.action, "left": r.left, **r.details}
            for r in self._relay.rules
        ]
        return {"links": links, "rules": rules}
