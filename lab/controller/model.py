"""The inputs and outputs of the policy: plain frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

State = Literal["up", "suspect", "down", "holding-off"]
"""The state of a port: `up`; `suspect` (perhaps silent: it keeps its addresses and gets no new
ones); `down` (no carrier, or silent for certain); `holding-off` (back for less than the hold
time)."""
Verdict = Literal["ok", "suspect", "silent"]
FOREIGN = "interface "
"""The prefix of an owner's name that is an interface but not a port of the array."""
Cause = Literal["start", "carrier", "probe", "hold", "order", "repair"]


@dataclass(frozen=True)
class Address:
    """One address of the array: its home port, and whether it is a virtual port's."""

    address: str
    home: str
    virtual: bool = False


@dataclass(frozen=True)
class Desired:
    """The array as it should be: the configuration plus later orders.

    `ports` is in takeover order: a dead port's addresses go to the next live port, cyclic.
    `hold_s` is the hold time in seconds, `request_s` the least seconds between two requests to
    move. `rebalances` counts the orders to even out the sessions.
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

    `now` is monotonic seconds. `links`: port is administratively up and has carrier. `owners`:
    address to the ports that have it now; an owner that is no port is a wrong interface.
    `sessions`: established connections by (initiator address, our address).
    """

    now: float
    links: Mapping[str, bool]
    owners: Mapping[str, frozenset[str]]
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    sessions: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True)
class PortMemory:
    """A port's state, its begin (monotonic seconds), and its cause."""

    state: State
    since: float
    cause: Cause


@dataclass(frozen=True)
class Asked:
    """An open request to a host to move to another port."""

    initiator: str
    to: str
    at: float


@dataclass(frozen=True)
class Memory:
    """What the policy remembers between plans; empty after a restart.

    `placed`: the port where each address was last put. `choices`: the login answer for each
    initiator: the address to redirect to, or None to serve it at the virtual port.
    `asked_before`: hosts that were already asked in this rebalancing.
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

    The initiator "default" stands for all unknown IPv4 hosts, "default6" for IPv6.
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
