"""Checks of hosts that are served at the virtual port while others are redirected."""

from __future__ import annotations

from lab.checks.session import logins
from lab.checks.verdict import Answer, Look, check, failed, passed, unknown
from lab.timeline import Timeline


@check(sees=("capture of host", "decoder"))
def login_answered(host: str, portal: str, status: str) -> Look:
    """The array answered every login of `host` at `portal` with `status` ("0x0000": accepted)."""

    def look(timeline: Timeline) -> Answer:
        seen = [str(e["status"]) for e in logins(timeline, host, portal)]
        if not seen:
            return unknown(f"No login of {host} at {portal} was seen on the wire.")
        text = f"{len(seen)} logins of {host} at {portal}, answered {', '.join(sorted(set(seen)))}"
        good = set(seen) == {status}
        return passed(f"{text}.") if good else failed(f"{text}; expected {status}.")

    return look


@check
def same_disk(first: str, second: str) -> Look:
    """Two hosts see the same disk: one serial number and size in all their sessions."""

    def look(timeline: Timeline) -> Answer:
        disks = {
            host: {(str(e["serial"]), e["size_bytes"]) for e in timeline.events("session", host)}
            for host in (first, second)
        }
        for host, seen in disks.items():
            if not seen:
                return unknown(f"No session of {host} was recorded.")
        if disks[first] != disks[second] or len(disks[first]) != 1:
            return failed(f"{first} sees {sorted(disks[first])}, {second} {sorted(disks[second])}.")
        ((serial, size),) = disks[first]
        return passed(f"{first} and {second} see serial number {serial} with {size} bytes.")

    return look
