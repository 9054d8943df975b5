"""Checks of sessions in the host's kernel and of logins on the wire."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from lab.checks.address import owners_at
from lab.checks.portals import as_set, config, port_addresses, virtual_addresses
from lab.checks.verdict import Answer, Look, check, failed, passed, unknown
from lab.portal import ip_of
from lab.timeline import Event, Timeline

REDIRECTED = "0x0101"
"""Login status: target moved temporarily (RFC 7143 section 11.13.5)."""


def sessions(timeline: Timeline, host: str, moment: str) -> dict[tuple[str, str], Event]:
    """The sessions of `host` at `moment`, by target and session id; the latest event counts."""
    return {
        (str(e["target"]), str(e["sid"])): e
        for e in timeline.events("session", host)
        if e["moment"] == moment
    }


def _unseen(host: str, before: object, after: object) -> str:
    missing = [name for name, seen in (("before", before), ("after", after)) if not seen]
    return f"No session of {host} was recorded {' or '.join(missing)} the fault."


@check(timed=True)
def session_survived(host: str) -> Look:
    """Every session survived: same SCSI devices, serial numbers and sizes, state LOGGED_IN.

    With libiscsi a host's kernel has no session. The disk that QEMU has open must survive
    (lab/host). libiscsi never reinstates a session but makes a new one; the evidence names each.
    """

    def look(timeline: Timeline) -> Answer:
        before, after = sessions(timeline, host, "before"), sessions(timeline, host, "after")
        if not before or not after:
            return unknown(_unseen(host, before, after))
        for (target, sid), was in before.items():
            now = after.get((target, sid))
            if now is None:
                have = ", ".join(f"{s} of {t}" for t, s in after)
                return failed(f"Session {sid} of {target} is gone; {host} has session {have}.")
            if now["state"] != "LOGGED_IN":
                return failed(f"Session {sid} of {target} is {now['state']}, not LOGGED_IN.")
            for key in ("device", "serial", "size_bytes"):
                if now[key] != was[key]:
                    return failed(f"Session {sid} of {host}: {key} {was[key]} became {now[key]}.")
                if was[key] is None:
                    return unknown(f"Session {sid} of {host}: its {key} was not recorded.")
            if now.get("disks") != was.get("disks"):
                had, has = _disks(was), _disks(now)
                return failed(f"Session {sid} of {host}: its disks, {had}, became {has}.")
        kept = ", ".join(f"session {sid} on {e['device']}" for (_, sid), e in after.items())
        carried = _carried(timeline, host)
        return passed(f"{host} kept {kept}: same serial number and size, LOGGED_IN.{carried}")

    return look


def _disks(session: Event) -> str:
    found = [f"LUN {d['lun']} {d['device']} {d['serial']}" for d in session.get("disks", ())]
    return ", ".join(found) or "none"


def _carried(timeline: Timeline, host: str) -> str:
    """With libiscsi: what the session stands for, and the ISIDs of its iSCSI sessions."""
    if config(timeline).get("initiator") != "libiscsi":
        return ""
    isids = {e["isid"]: None for e in logins(timeline, host) if e["status"] == "0x0000"}
    seen = f"; ISIDs that logged in: {', '.join(isids)}" if isids else ""
    return f" With libiscsi a session is the disk that QEMU has open{seen}."


@check(timed=True)
def same_connection(host: str) -> Look:
    """The TCP connections (4-tuples) of `host` are the same before and after."""

    def look(timeline: Timeline) -> Answer:
        before, after = sessions(timeline, host, "before"), sessions(timeline, host, "after")
        if not before or not after:
            return unknown(_unseen(host, before, after))
        was = sorted(str(e["connection"]) for e in before.values() if e["connection"])
        now = sorted(str(e["connection"]) for e in after.values() if e["connection"])
        if not was:
            return unknown(f"No TCP connection of {host} was recorded before the fault.")
        if was != now:
            there = "; ".join(now) or "none"
            return failed(f"The connection of {host} was {'; '.join(was)}; later {there}.")
        return passed(f"The same TCP connection before and after: {'; '.join(was)}.")

    return look


@check(timed=True)
def served_at(host: str, portals: str | Collection[str], moment: str) -> Look:
    """At `moment` the current portal of every session of `host` is one of `portals`."""
    wanted = as_set(portals)

    def look(timeline: Timeline) -> Answer:
        found = sessions(timeline, host, moment)
        if not found:
            return unknown(f"No session of {host} was recorded at the moment {moment!r}.")
        current = sorted({str(e["current"]) for e in found.values()})
        text = f"{host} was served at {', '.join(current)} at the moment {moment!r}"
        if {ip_of(p) for p in current} <= wanted:
            return passed(f"{text}.")
        return failed(f"{text}; expected {' or '.join(sorted(wanted))}.")

    return look


def logins(timeline: Timeline, host: str, ip: str | None = None) -> list[Event]:
    """The answered logins of `host` on the wire, only those at `ip` if given."""
    return [
        e
        for e in timeline.events("login", host)
        if e["status"] and (ip is None or ip_of(e["portal"]) == ip_of(ip))
    ]


@check(sees=("capture of host", "decoder"))
def redirected_at_login(
    host: str,
    virtual: str,
    to: str | Collection[str] | None = None,
    *,
    status: str = REDIRECTED,
) -> Look:
    """The array redirected the first login of `host` at the virtual port and serves it elsewhere.

    `to`: the addresses that the redirect may name; None: any but the virtual one.
    """
    wanted = as_set(to) if to is not None else None

    def look(timeline: Timeline) -> Answer:
        seen = logins(timeline, host, virtual)
        if not seen:
            return unknown(f"No login of {host} at {virtual} was seen on the wire.")
        first = seen[0]
        text = f"The first login of {host} at {first['portal']} was answered {first['status']}"
        sent = first["target_address"]
        if first["status"] != status:
            return failed(f"{text}, not {status}.")
        if not sent:
            return failed(f"{text} without a TargetAddress.")
        text = f"{text}, TargetAddress {sent}"
        if ip_of(sent) == ip_of(virtual) or (wanted is not None and ip_of(sent) not in wanted):
            return failed(f"{text}; expected {' or '.join(sorted(wanted or {'another address'}))}.")
        stayed = [
            e for e in timeline.events("session", host) if ip_of(e["current"]) == ip_of(virtual)
        ]
        if stayed:
            return failed(f"{text}, but its session is at the virtual port.")
        served = {e["current"] for e in timeline.events("session", host)} or {
            e["portal"]
            for e in logins(timeline, host)
            if e["status"] == "0x0000" and ip_of(e["portal"]) != ip_of(virtual)
        }
        if not served:
            return unknown(f"{text}; but no session of {host} was recorded after that.")
        return passed(f"{text}; {host} is served at {', '.join(sorted(served))}.")

    return look


@check(sees=("capture of host", "decoder"))
def discovery_hides_ports(host: str, virtual: str) -> Look:
    """Discovery from `host` returns the virtual portal only, by iscsiadm and on the wire."""

    def look(timeline: Timeline) -> Answer:
        found = timeline.events("discovery", host)
        if not found:
            return unknown(f"No discovery from {host} was recorded.")
        for event in [*found, *timeline.events("discovery-wire", host)]:
            if {ip_of(p) for p in event["portals"]} != {ip_of(virtual)}:
                named = ", ".join(event["portals"]) or "nothing"
                return failed(f"Discovery from {host} returned {named}; expected {virtual} only.")
        return passed(f"Discovery from {host} returned {', '.join(found[-1]['portals'])} only.")

    return look


@check(sees=("capture of host", "decoder"), timed=True)
def new_login(host: str, portal: str) -> Look:
    """After the first fault began, `host` logged in at `portal` and its session came up.

    `portal` accepts the login or redirects it.
    """

    def look(timeline: Timeline) -> Answer:
        if not timeline.events("login"):
            return unknown("No login was seen on the wire.")
        began = [e["t"] for e in timeline.events("fault") if e["phase"] == "begin"]
        since = min(began, default=0.0)
        seen = [e for e in logins(timeline, host, portal) if e["t"] >= since]
        good = [e for e in seen if e["status"][:4] in ("0x00", "0x01")]
        if not good:
            had = ", ".join(str(e["status"]) for e in seen) or "none"
            return failed(f"{host} did not log in at {portal}; answers seen: {had}.")
        after = [e for e in timeline.events("session", host) if e["t"] >= good[0]["t"]]
        text = f"The login of {host} at {good[0]['portal']} was answered {good[0]['status']}"
        if not after:
            return unknown(f"{text}, but no session was recorded after that.")
        # A host may have several sessions; all those of the last look at it must be up.
        last = [e for e in after if e["moment"] == after[-1]["moment"]]
        down = [e for e in last if e["state"] != "LOGGED_IN"]
        if down:
            return failed(f"{text}, but its session is {down[0]['state']}.")
        return passed(f"{text}; its session is at {after[-1]['current']}.")

    return look


@check(sees=("addresses",), timed=True)
def sessions_spread(ports: Collection[str] | None = None) -> Look:
    """The sessions of all hosts spread over `ports` (None: all); counts differ by at most one.

    A session belongs to the port that had its portal's address when it was recorded. Where the
    kernel was not watched, it belongs to the port that the configuration gives the address to.
    """

    def look(timeline: Timeline) -> Answer:
        known = port_addresses(timeline)
        counted = sorted(ports if ports is not None else known)
        latest: dict[tuple[str, str, str], Event] = {}
        for event in timeline.events("session"):
            latest[event["where"], str(event["target"]), str(event["sid"])] = event
        current = [e for e in latest.values() if e["state"] == "LOGGED_IN"]
        if not counted:
            return unknown("The configuration names no ports.")
        if not current:
            return unknown("No session in state LOGGED_IN was recorded.")
        load: Counter[str] = Counter()
        for event in current:
            ip = ip_of(event["current"])
            at = owners_at(timeline, ip, event["t"]) or {p for p in known if ip in known[p]}
            if len(at) != 1:
                where = "the virtual address" if ip in virtual_addresses(timeline) else ip
                return failed(f"The session of {event['where']} is at {where}, not at a port.")
            load.update(at)
        shares = [load[p] for p in counted]
        text = ", ".join(
            f"{p} {n}" for p, n in sorted({**dict.fromkeys(counted, 0), **load}.items())
        )
        if max(shares) - min(shares) > 1 or set(load) - set(counted):
            return failed(f"Sessions per port: {text}; they differ by more than one.")
        return passed(f"Sessions per port: {text}.")

    return look
