"""The rules of a relay: read from JSON, matched against PDUs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from lab.portal import ip_of
from targets.pdu import FROM_INITIATOR, FROM_TARGET, Op

Json = dict[str, Any]


class CommandError(ValueError):
    """A command that cannot be carried out; the message names the field and what it may be."""


class Direction(StrEnum):
    """Which way a PDU goes."""

    TO_TARGET = "to-target"
    TO_INITIATOR = "to-initiator"


@dataclass(frozen=True)
class Facts:
    """What is known of a connection; names are "" until its first Login Request."""

    connection: int
    port: str
    peer: str
    initiator: str = ""
    target: str = ""
    session: str = ""


@dataclass(frozen=True)
class Select:
    """Selects connections that match all given fields; without a field, all of them."""

    connection: int | None = None
    port: str | None = None
    peer: str | None = None
    initiator: str | None = None
    target: str | None = None
    session: str | None = None

    def matches(self, facts: Facts) -> bool:
        """Whether the connection is selected; `peer` may be an address or address and port."""
        return (
            self.connection in (None, facts.connection)
            and self.port in (None, facts.port)
            and self.peer in (None, facts.peer, ip_of(facts.peer))
            and self.initiator in (None, facts.initiator)
            and self.target in (None, facts.target)
            and self.session in (None, facts.session)
        )


@dataclass
class Rule:
    """A standing order for PDUs of one direction; `left` None means until it is cleared."""

    number: int
    action: str
    select: Select
    direction: Direction
    opcodes: frozenset[int] | None
    left: int | None
    skip: int = 0
    details: Json = field(default_factory=dict)

    def use(self) -> bool:
        """Count one matching PDU. Returns whether the rule acts on it."""
        if self.left == 0:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.left is not None:
            self.left -= 1
        return True


@dataclass(frozen=True)
class AsyncOrder:
    """An Async Message to send (RFC 7143, 11.9.1).

    `parameters`: Parameter1 to 3; None for the first is the connection's own CID. `grace_s`:
    seconds that a logout may take (None: no limit). `drop_after_s`: seconds until the relay drops
    the announced connections (None: never).
    """

    event: int
    parameters: tuple[int | None, int, int]
    grace_s: float | None = None
    drop_after_s: float | None = None


def number(order: Json, name: str, default: Any, low: float, high: float, whole: bool) -> Any:
    """The number `name` of a command, between `low` and `high`; CommandError if it is not one."""
    value = order.get(name, default)
    if value is default:
        return value
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        what = "a whole number" if whole else "a number"
        raise CommandError(f"{name}: {value!r} is not {what} from {low:g} to {high:g}")
    return value


def one_of(order: Json, name: str, default: str, choices: tuple[str, ...]) -> str:
    """The word `name` of a command; CommandError unless it is one of `choices`."""
    value = order.get(name, default)
    if value not in choices:
        raise CommandError(f"{name}: {value!r} is not one of {', '.join(choices)}")
    return str(value)


def select_from(order: Json) -> Select:
    """The `select` object of a command: connection, port, peer, initiator, target, session."""
    raw = order.get("select") or {}
    known = Select.__dataclass_fields__
    if not isinstance(raw, dict) or set(raw) - set(known):
        raise CommandError(f"select: {raw!r} is not an object with {', '.join(known)}")
    for name, value in raw.items():
        if not isinstance(value, int if name == "connection" else str):
            raise CommandError(f"select.{name}: {value!r} is of the wrong kind")
    return Select(**raw)


def opcodes_from(order: Json, direction: Direction) -> frozenset[int] | None:
    """The opcodes of a command: a name, a number or a list of them; "any" or none: all (None)."""
    raw = order.get("opcode", "any")
    if raw == "any":
        return None
    there = FROM_INITIATOR if direction is Direction.TO_TARGET else FROM_TARGET
    names = {op.label: int(op) for op in there}
    found = set()
    for item in raw if isinstance(raw, list) else [raw]:
        code = names.get(item) if isinstance(item, str) else item
        if isinstance(code, bool) or not isinstance(code, int) or not 0 <= code < 0x40:
            shown = ", ".join(sorted(names))
            raise CommandError(f"opcode: {item!r} is not a number below 64 or one of {shown}")
        found.add(code)
    return frozenset(found)


def status_from(order: Json) -> int:
    """The login status of a command: "0x0101" or a number (RFC 7143, 11.13.5)."""
    raw = order.get("status", "0x0101")
    try:
        value = int(raw, 16) if isinstance(raw, str) else int(raw)
    except (TypeError, ValueError):
        value = -1
    if not 0 <= value <= 0xFFFF:
        raise CommandError(f"status: {raw!r} is not a login status such as 0x0101")
    return value


def _answer(order: Json) -> Json:
    address = order.get("target_address")
    if address is not None and not isinstance(address, str):
        raise CommandError(f"target_address: {address!r} is not a text or null")
    keys = order.get("keys") or {}
    if not isinstance(keys, dict) or not all(isinstance(v, str) for v in keys.values()):
        raise CommandError(f"keys: {keys!r} is not an object of texts")
    return {"status": status_from(order), "target_address": address, "keys": dict(keys)}


def _corrupt(order: Json) -> Json:
    kinds = ("header", "header-digest", "data", "data-digest")
    return {
        "what": one_of(order, "what", "data", kinds),
        "offset": number(order, "offset", 0, 0, (1 << 24) - 1, True),
        "fix_digest": bool(order.get("fix_digest", False)),
    }


_DETAILS: dict[str, Callable[[Json], Json]] = {
    "answer-login": _answer,
    "swallow": lambda order: {},
    "delay": lambda order: {"seconds": float(number(order, "seconds", 1.0, 0, 3600, False))},
    "corrupt": _corrupt,
    "close": lambda order: {
        "after": number(order, "after", None, 1, 1 << 25, True),
        "how": one_of(order, "how", "fin", ("fin", "reset")),
    },
}
ACTIONS = tuple(_DETAILS)


def rule_from(order: Json, rule: int) -> Rule:
    """The standing order of a command whose name is one of ACTIONS; CommandError if it is wrong."""
    action = str(order["command"])
    direction = Direction(
        one_of(order, "direction", Direction.TO_INITIATOR, tuple(d.value for d in Direction))
    )
    opcodes = opcodes_from(order, direction)
    if action == "answer-login":
        direction, opcodes = Direction.TO_TARGET, frozenset({int(Op.LOGIN_REQUEST)})
    return Rule(
        rule,
        action,
        select_from(order),
        direction,
        opcodes,
        None
        if "count" in order and order["count"] is None
        else number(order, "count", 1, 1, 1 << 40, True),
        number(order, "skip", 0, 0, 1 << 40, True),
        _DETAILS[action](order),
    )


def async_from(order: Json) -> AsyncOrder:
    """The message of an `async` command; CommandError if a field is wrong.

    Defaults: after a logout request (event 1) the grace time is Parameter3 seconds. After events 2
    and 3 the relay drops the announced connections at once.
    """
    event = number(order, "event", 1, 0, 255, True)
    parameters = tuple(
        number(order, f"parameter{i}", None if i == 1 and event == 2 else 0, 0, 0xFFFF, True)
        for i in (1, 2, 3)
    )
    grace = float(parameters[2]) if event == 1 else None
    drop = 0.0 if event in (2, 3) else None
    if order.get("grace_s", ...) is not None:
        grace = number(order, "grace_s", grace, 0, 86400, False)
    else:
        grace = None
    if order.get("drop_after_s", ...) is not None:
        drop = number(order, "drop_after_s", drop, 0, 86400, False)
    else:
        drop = None
    return AsyncOrder(event, (parameters[0], parameters[1], parameters[2]), grace, drop)
