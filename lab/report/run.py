"""What a report shows, taken from a result and a timeline: no geometry, no text."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from lab.checks.address import Owned, ownership
from lab.checks.disk import Gap, gaps, load_intervals
from lab.checks.portals import port_addresses, port_macs, virtual_addresses
from lab.portal import ip_of
from lab.timeline import Event, Timeline


@dataclass(frozen=True)
class Fault:
    """A fault from `begin` to `end` (Unix seconds; the end of the run if it was not ended)."""

    name: str
    where: str
    begin: float
    end: float


@dataclass(frozen=True)
class Segment:
    """From `begin` to `end`, `address` was at `port` ('' if not known)."""

    begin: float
    end: float
    address: str
    port: str


class Run:
    """A finished run. Times are Unix seconds; `origin` is what the report calls zero."""

    def __init__(self, result: dict[str, Any], timeline: Timeline) -> None:
        self.result, self.timeline = result, timeline
        self.by_kind: dict[str, list[Event]] = defaultdict(list)
        for event in timeline:
            self.by_kind[event["kind"]].append(event)
        # I/O is most of the timeline; readers that scan it many times use this one without it.
        self.quiet = Timeline()
        self.quiet.extend(e for kind, found in self.by_kind.items() if kind != "io" for e in found)
        times = [e["t"] for e in self.quiet if e["kind"] != "config"] + [
            e["t"] for e in self.by_kind["io"]
        ]
        self.end = max(times, default=0.0)
        loads = [e["t"] for e in self.by_kind["load"] if e.get("phase") == "begin"]
        first = min(times, default=0.0)
        self.origin = min(loads, default=first)
        # Events long before the load (booting) would leave the rest no room in the chart.
        early = [e["t"] for e in self.quiet if e["kind"] in ("login", "fault", "session")]
        self.begin = min([self.origin, *early])
        margin = 0.01 * (self.end - self.begin)
        self.begin, self.end = self.begin - margin, self.end + margin

    @cached_property
    def ports(self) -> list[str]:
        """The array's ports, in the order of the configuration, then as they came up."""
        named = list(port_addresses(self.quiet))
        return list(dict.fromkeys([*named, *(e["where"] for e in self.by_kind["address"])]))

    @cached_property
    def macs(self) -> dict[str, str]:
        """MAC address -> port."""
        return port_macs(self.quiet)

    @cached_property
    def hosts(self) -> list[str]:
        """The hosts that did something."""
        kinds = ("load", "io", "session", "login")
        return sorted({str(e["where"]) for kind in kinds for e in self.by_kind[kind]})

    @cached_property
    def completed(self) -> dict[str, list[float]]:
        """Host -> when its operations completed with status ok, sorted."""
        found: dict[str, list[float]] = defaultdict(list)
        for event in self.by_kind["io"]:
            if event.get("status") == "ok":
                found[str(event["where"])].append(event["t"])
        return found

    @cached_property
    def gaps(self) -> dict[str, list[Gap]]:
        """Host -> the gaps in its completed I/O under load, the longest first."""
        found = {}
        for host in self.hosts:
            if not any(e["where"] == host for e in self.by_kind["io"]):
                continue
            open_end = [
                gap
                for interval in load_intervals(self.quiet, host)
                for gap in gaps(self.completed[host], interval.begin, interval.end)
            ]
            found[host] = sorted(open_end, key=lambda g: g.ms, reverse=True)
        return found

    @cached_property
    def faults(self) -> list[Fault]:
        """The faults in the order in which they began."""
        found: list[Fault] = []
        events = self.by_kind["fault"]
        for at, event in enumerate(events):
            if event.get("phase") != "begin":
                continue
            same = (event.get("name"), event["where"])
            ends = (
                e["t"]
                for e in events[at + 1 :]
                if (e.get("name"), e["where"]) == same and e.get("phase") == "end"
            )
            end = next(ends, self.end)
            found.append(Fault(str(event.get("name")), str(event["where"]), event["t"], end))
        return found

    @cached_property
    def virtual(self) -> list[str]:
        """The virtual addresses."""
        return virtual_addresses(self.quiet)

    @cached_property
    def owners(self) -> dict[str, list[Owned]]:
        """Address -> the ports that had it, with times; virtual addresses first."""
        addresses = dict.fromkeys(ip_of(e["address"]) for e in self.by_kind["address"])
        ordered = [*(a for a in self.virtual if a in addresses), *addresses]
        return {address: ownership(self.quiet, address) for address in dict.fromkeys(ordered)}

    def port_at(self, address: str, t: float) -> str:
        """The port that has `address` at `t`, else the one it is configured on, else ''."""
        states = self.owners.get(ip_of(address), [])
        at = bisect_right([s.t for s in states], t)
        if at and states[at - 1].ports:
            return "+".join(sorted(states[at - 1].ports))
        if states:
            return ""
        known = port_addresses(self.quiet)
        return next((p for p, listed in known.items() if ip_of(address) in listed), "")

    def held(self, address: str, begin: float, end: float) -> list[Segment]:
        """Which port had `address` between `begin` and `end`."""
        changes = [s.t for s in self.owners.get(ip_of(address), []) if begin < s.t < end]
        points = [begin, *changes, end]
        found: list[Segment] = []
        for a, b in pairwise(points):
            port = self.port_at(address, a)
            if found and found[-1].port == port:
                a = found.pop().begin
            found.append(Segment(a, b, ip_of(address), port))
        return found

    @cached_property
    def served(self) -> dict[str, list[Segment]]:
        """Host -> the ports that served it, by logins on the wire, else by recorded sessions."""
        found = {}
        for host in self.hosts:
            accepted = [
                (e["t"], ip_of(e["portal"]))
                for e in self.by_kind["login"]
                if e["where"] == host and e.get("status") == "0x0000"
            ]
            said = [
                (e["t"], ip_of(e["current"]))
                for e in self.by_kind["session"]
                if e["where"] == host and e.get("current")
            ]
            points = accepted or said
            ends = [t for t, _ in points[1:]] + [self.end]
            found[host] = [
                segment
                for (begin, address), end in zip(points, ends[: len(points)], strict=True)
                if end > begin
                for segment in self.held(address, begin, end)
            ]
        return found

    @cached_property
    def announced(self) -> list[Event]:
        """Announcements; one captured in several places counts once."""
        found: dict[tuple[str, str, int], Event] = {}
        for event in self.by_kind["announcement"]:
            key = (str(event["address"]), str(event.get("mac")), round(event["t"] * 1000))
            found.setdefault(key, event)
        return list(found.values())
