"""Which port of the array an address or a MAC belongs to, by the configuration."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from lab.portal import ip_of
from lab.timeline import Timeline


def as_set(one_or_more: str | Collection[str]) -> frozenset[str]:
    """The IP addresses of one portal or several."""
    given = [one_or_more] if isinstance(one_or_more, str) else one_or_more
    return frozenset(ip_of(p) for p in given)


def config(timeline: Timeline) -> dict[str, Any]:
    """All `config` events merged; a later one wins."""
    facts: dict[str, Any] = {}
    for event in timeline.events("config"):
        facts.update(event)
    return facts


def virtual_addresses(timeline: Timeline) -> list[str]:
    """The virtual addresses that the configuration names (keys `virtual`, `virtual_addresses`)."""
    facts = config(timeline)
    given = facts.get("virtual", facts.get("virtual_addresses", facts.get("virtual_address", [])))
    return sorted(as_set(given))


def port_addresses(timeline: Timeline) -> dict[str, list[str]]:
    """The data addresses of each port, as configured, without the virtual ones."""
    virtual = set(virtual_addresses(timeline))
    found: dict[str, list[str]] = {}
    for port, entry in config(timeline).get("ports", {}).items():
        listed = entry.get("addresses", []) if isinstance(entry, Mapping) else entry
        found[port] = [ip_of(a) for a in listed if ip_of(a) not in virtual]
    return found


def port_macs(timeline: Timeline) -> dict[str, str]:
    """MAC address -> port, from the configuration: `macs` {port: mac}, or `mac` of each port."""
    facts = config(timeline)
    found = {str(mac).lower(): port for port, mac in facts.get("macs", {}).items()}
    for port, entry in facts.get("ports", {}).items():
        if isinstance(entry, Mapping) and entry.get("mac"):
            found[str(entry["mac"]).lower()] = port
    return found
