"""What the planner is told and what it answers: plain frozen data, no system behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

State = Literal["up", "suspect", "down", "holding-off"]
"""A port: `up`; `suspect` (silent, but it cannot be told which side is at fault: it keeps what it
has and gets nothing new); `down` (no carrier, or silent for certain); `holding-off` (back, but not
yet for the hold time)."""
Verdict = Literal["ok", "suspect", "silent"]
FOREIGN = "interface "
"""Before the name of an owner of an address that is an interface, but no port of ours."""
Cause = Literal["start", "carrier", "probe", "hold", "order", "repair"]


@dataclass(frozen=True)
class Address:
    """One address of the array: its home port, and whether it is a virtual port's."""

    address: str
    home: str
    virtual: bool = False


@dataclass(frozen=True)
class Desired:
    """The array as it should be: the configuration, and the orders given since.

    `ports` is the takeover order: what a port loses goes to the next live port after it, cyclic.
    `hold_s` and `request_s` (the least time between two requests to move) are seconds.
    `rebalances` counts the orders to even out the load.
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
    have an address now (a name that is no port is an interface where it does not belong).
    `sessions`: established connections by (initiator address, our address).
    """

    now: float
    links: Mapping[str, bool]
    owners: Mapping[str, frozenset[str]]
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    sessions: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True)
class PortMemory:
    """A port's state, since when (monotonic seconds), and what made it so."""

    state: State
    since: float
    cause: Cause


@dataclass(frozen=True)
class Asked:
    """A request to a host to move to another port that is still open."""

    initiator: str
    to: str
    at: float


@dataclass(frozen=True)
class Memory:
    """What the planner must remember from one plan to the next; empty after a restart.

    `placed`: where each address was last put. `choices`: what each initiator is answered at
    login: the address to go to, or None to be served at the virtual port. `asked_before`: hosts
    that this round of rebalancing has asked already.
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
    """Answer the next login of `initiator` with `address`; None: serve it at the virtual port.

    The initiator "default" stands for every IPv4 host that is not known, "default6" for IPv6.
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
    """Every port is down: nothing is changed until one is back."""


Action = RemoveAddress | AddAddress | Redirect | AskToMove | NoPortLeft
