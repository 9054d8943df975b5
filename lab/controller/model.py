"""Input and output of the planner: plain frozen data without system calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

State = Literal["up", "suspect", "down", "holding-off"]
"""A port: `up`; `suspect` (silent, but the fault may be elsewhere: it keeps its addresses and gets
no new ones); `down` (no carrier, or certainly silent); `holding-off` (up again, but not yet for the
hold time)."""
Verdict = Literal["ok", "suspect", "silent"]
FOREIGN = "interface "
"""Prefix of an owner's name that is an interface but not a port of the array."""
Cause = Literal["start", "carrier", "probe", "hold", "order", "repair"]


@dataclass(frozen=True)
class Address:
    """One address of the array: its home port, and whether it is a virtual address."""

    address: str
    home: str
    virtual: bool = False


@dataclass(frozen=True)
class Desired:
    """The array as it should be: the configuration plus later orders.

    `ports` is the takeover order: a dead port's addresses go to the next live port, cyclically.
    `hold_s` and `request_s` (the least time between two requests to move) are seconds.
    `rebalances` counts the orders to balance the load.
    """

    ports: tuple[str, ...]
    addresses: tuple[Address, ...]
    initiators: tuple[str, ...] = ()
    mode: Literal["takeover", "redirect-only"] = "takeover"
    redirect: Literal["spread", "fixed", "none"] = "spread"
    fixed: Mapping[str, str] = field(default_factory=dict)
    serve: frozenset[str] = frozenset()
    hold_s: float = 5.0
    request_s: float = 2.0
    drained: frozenset[str] = frozenset()
    rebalances: int = 0


@dataclass(frozen=True)
class Observed:
    """What the kernel and the probes say.

    `now` is monotonic seconds. `links`: carrier and administratively up. `owners`: the ports that
    have an address now (FOREIGN names an interface that is no port). `sessions`: established
    connections by (initiator address, our address).
    """

    now: float
    links: Mapping[str, bool]
    owners: Mapping[str, frozenset[str]]
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    sessions: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True)
class PortMemory:
    """A port's state, since when (monotonic seconds), and its cause."""

    state: State
    since: float
    cause: Cause


@dataclass(frozen=True)
class Asked:
    """A pending request to a host to move to another port."""

    initiator: str
    to: str
    at: float


@dataclass(frozen=True)
class Memory:
    """What the planner must remember from one plan to the next; empty after a restart.

    `placed`: where each address was last put. `choices`: the login answer for each
    initiator: an address, or None to serve it at the virtual port. `asked_before`: hosts that this
    round of rebalancing has asked already.
    """

    ports: Mapping[str, PortMemory] = field(default_factory=dict)
    placed: Mapping[str, str] = field(default_factory=dict)
    choices: Mapping[str, str | None] = field(default_factory=dict)
    none_left: bool = False
    rebalances: int = 0
    rebalancing: bool = False
    asked: Asked | None = None
    asked_before: frozenset[str] = frozenset()
    asked_at: float = float("-inf")


@dataclass(frozen=True)
class RemoveAddress:
    """Take `address` off `port`."""

    address: str
    port: str
    cause: Cause


@dataclass(frozen=True)
class AddAddress:
    """Put `address` on `port`, and announce it there."""

    address: str
    port: str
    cause: Cause


@dataclass(frozen=True)
class Redirect:
    """Redirect the next login of `initiator` to `address`; None: serve it at the virtual port.

    The initiator "default" means every unknown IPv4 host, "default6" every unknown IPv6 host.
    """

    initiator: str
    address: str | None


@dataclass(frozen=True)
class AskToMove:
    """Ask `initiator`, whose session is at address `source`, to log in again."""

    initiator: str
    source: str
    to: str


@dataclass(frozen=True)
class NoPortLeft:
    """Every port is down; nothing changes until one is back."""


Action = RemoveAddress | AddAddress | Redirect | AskToMove | NoPortLeft
