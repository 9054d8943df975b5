"""Checks of what must not change with the path to a disk: identity and reservations."""

from __future__ import annotations

from lab.checks.verdict import Answer, Look, check, failed, passed, unknown
from lab.timeline import Event, Timeline

IDENTITY = ("serial", "designators", "size_bytes", "block_bytes")
"""VPD page 0x80, VPD page 0x83, READ CAPACITY(16): how a host identifies a disk."""


@check
def same_identity(host: str, disks: int = 1) -> Look:
    """Each disk of `host` gave the same VPD pages and size before and after.

    `disks`: the least number of disks. No two may share a serial number.
    """

    def look(timeline: Timeline) -> Answer:
        asked = timeline.events("identity", host)
        moments = list(dict.fromkeys(str(e["moment"]) for e in asked))
        if len(moments) < 2:
            return unknown(f"The disks of {host} were read {len(moments)} times; two are needed.")
        by_moment = {
            moment: {_name(e): e for e in asked if e["moment"] == moment} for moment in moments
        }
        first = by_moment[moments[0]]
        if len(first) < disks:
            return failed(f"{host} has {len(first)} disks at {moments[0]!r}, not {disks}.")
        for moment, found in by_moment.items():
            if set(found) != set(first):
                there = ", ".join(sorted(found))
                return failed(f"{host} has {there} at {moment!r}, not {', '.join(sorted(first))}.")
            for name, event in found.items():
                for what in IDENTITY:
                    if event[what] != first[name][what]:
                        was = f"{what} {first[name][what]} became {event[what]}"
                        return failed(f"{name} of {host}: {was} ({moment}).")
        serials = sorted({str(e["serial"]).strip(" \0") for e in first.values()})
        if len(serials) < len(first):
            return failed(f"{len(first)} disks of {host} have {len(serials)} serial numbers.")
        return passed(f"{', '.join(serials)}: same VPD 0x80, 0x83 and capacity at {_in(moments)}.")

    return look


def _name(event: Event) -> str:
    return f"LUN {event['lun']} of {event['target']}"


def _in(moments: list[str]) -> str:
    return ", ".join(repr(moment) for moment in moments)


@check
def reservation_unchanged(host: str) -> Look:
    """Each time `host` looked, the registered keys and the reservation holder were the same."""

    def look(timeline: Timeline) -> Answer:
        seen = timeline.events("reservation", host)
        if len(seen) < 2:
            return unknown(f"{host} read the reservation {len(seen)} times; two are needed.")
        first = seen[0]
        if first["holder"] is None:
            return unknown(f"There was no reservation to keep at {first['moment']!r}.")
        for event in seen[1:]:
            for what in ("holder", "type", "keys"):
                if event[what] != first[what]:
                    said = f"{_said(first)} at {first['moment']!r}, {_said(event)}"
                    return failed(f"{host} saw {said} at {event['moment']!r}.")
        moments = [str(e["moment"]) for e in seen]
        return passed(f"{host} saw {_said(first)} at {_in(moments)}.")

    return look


def _said(event: Event) -> str:
    keys = ", ".join(event["keys"]) or "none"
    held = f"held by {event['holder']} (type {event['type']})" if event["holder"] else "free"
    return f"the disk {held}, keys {keys}"


@check
def writes_refused(host: str) -> Look:
    """Each write that `host` tried failed with a reservation conflict."""
    return _attempts(host, "conflict")


@check
def writes_allowed(host: str) -> Look:
    """Each write that `host` tried succeeded."""
    return _attempts(host, "ok")


def _attempts(host: str, wanted: str) -> Look:
    def look(timeline: Timeline) -> Answer:
        tried = timeline.events("attempt", host)
        if not tried:
            return unknown(f"{host} did not try to write.")
        told = ", ".join(f"{e['status']} at {e['moment']!r}" for e in tried)
        good = all(e["status"] == wanted for e in tried)
        return (passed if good else failed)(f"{host} tried to write: {told}.")

    return look
