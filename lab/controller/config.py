"""The controller's configuration file: JSON, checked as it is read."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.controller.model import Address, Desired
from lab.errors import BadInput

FIRST_TABLE = 100
"""The routing table of the first address; the others follow."""


@dataclass(frozen=True)
class Place:
    """An address as the kernel gets it: prefix length, subnet, routing table."""

    address: str
    prefix: int
    subnet: str
    table: int

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.address else 4


@dataclass(frozen=True)
class Probe:
    """How ports are probed: one round per `interval_s` seconds, dead after `count` silent ones."""

    interval_s: float
    count: int


@dataclass(frozen=True)
class Config:
    """A configuration file's content; `interfaces` by port name, `places` by address.

    `desired` includes the orders in force; `homes` (by address) are those configured.
    """

    array: str
    desired: Desired
    homes: dict[str, str]
    interfaces: dict[str, str]
    places: dict[str, Place]
    probe: Probe | None
    steering: Path | None


def canonical(address: str) -> str:
    """The canonical spelling of an IPv4 or IPv6 address; ValueError if it is not one."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, address))
    except OSError:
        raise ValueError(f"{address!r} is not an IP address") from None


def place(text: str, table: int) -> Place:
    """The Place for `text`, "ADDRESS/PREFIX"; ValueError if it is not that."""
    address, _, length = text.partition("/")
    address = canonical(address)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    bits = 8 * len(packed)
    prefix = int(length) if length else bits
    if not 0 <= prefix <= bits:
        raise ValueError(f"{text!r}: the prefix length must be 0 to {bits}")
    mask = ((1 << prefix) - 1) << (bits - prefix)
    network = (int.from_bytes(packed, "big") & mask).to_bytes(len(packed), "big")
    return Place(address, prefix, f"{socket.inet_ntop(family, network)}/{prefix}", table)


def read(path: Path) -> Config:
    """The configuration in `path`; raises BadInput with file and key if it is unusable."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: {error}") from None
    try:
        return parse(content)
    except KeyError as missing:
        raise BadInput(f"{path}: the key {missing} is missing") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{path}: {error}") from None


def parse(content: dict[str, Any]) -> Config:
    """The configuration `content`; KeyError for a missing key, ValueError for a bad value.

    Two keys carry the orders in force to a restarted controller: `drained` (port names) and
    `virtual_at` (the port that an order moved the virtual addresses to).
    """
    interfaces = {port["name"]: port["interface"] for port in content["ports"]}
    ports = tuple(interfaces)
    if len(ports) != len(content["ports"]) or len(set(interfaces.values())) != len(ports):
        raise ValueError("ports: two of them have the same name or the same interface")
    places: dict[str, Place] = {}
    homes: dict[str, str] = {}
    addresses: list[Address] = []
    for at, entry in enumerate(content["addresses"]):
        here = place(entry["address"], FIRST_TABLE + at)
        if here.address in places:
            raise ValueError(f"addresses: {here.address} appears twice")
        places[here.address] = here
        homes[here.address] = entry["home"]
        virtual = bool(entry.get("virtual", False))
        ordered = content.get("virtual_at") if virtual else None
        addresses.append(Address(here.address, ordered or entry["home"], virtual))
    fixed = {canonical(k): v for k, v in (content.get("fixed") or {}).items()}
    drained = frozenset(content.get("drained") or ())
    for name in [*homes.values(), *(a.home for a in addresses), *fixed.values(), *drained]:
        if name not in interfaces:
            raise ValueError(f"{name!r} is not one of the ports: {', '.join(ports)}")
    mode, redirect = content.get("mode", "takeover"), content.get("redirect", "spread")
    if mode not in ("takeover", "redirect-only"):
        raise ValueError(f"mode: {mode!r} must be takeover or redirect-only")
    if redirect not in ("spread", "fixed", "none"):
        raise ValueError(f"redirect: {redirect!r} must be spread, fixed or none")
    steering = content.get("steering")
    return Config(
        array=str(content["array"]),
        desired=Desired(
            ports=ports,
            addresses=tuple(addresses),
            initiators=tuple(canonical(i) for i in content.get("initiators") or ()),
            mode=mode,
            redirect=redirect,
            fixed=fixed,
            serve=frozenset(canonical(i) for i in content.get("serve") or ()),
            hold_s=float(content.get("hold_s", 5.0)),
            request_s=float(content.get("request_s", 2.0)),
            drained=drained,
        ),
        homes=homes,
        interfaces=interfaces,
        places=places,
        probe=_probe(content.get("probe")),
        steering=Path(steering) if steering else None,
    )


def _probe(entry: dict[str, Any] | None) -> Probe | None:
    if not entry:
        return None
    interval, count = float(entry.get("interval_ms", 20)), int(entry.get("count", 3))
    if interval < 1 or count < 1:
        raise ValueError("probe: interval_ms and count must be at least 1")
    return Probe(interval / 1000, count)
