"""Checks of Async Messages and redirects, judged by the wire alone."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

from lab.checks.moments import scenario_end
from lab.checks.portals import as_set
from lab.checks.session import REDIRECTED, logins
from lab.checks.verdict import Answer, Look, check, failed, passed, unknown
from lab.portal import ip_of
from lab.timeline import Event, Timeline

LOGOUT, DROP, DROP_ALL = 1, 2, 3
"""AsyncEvent (RFC 7143 section 11.9.1): logout requested; one connection dropped; all dropped."""
SERVED = "0x0000"
DROP_LATE_S = 1.0
"""Seconds by which an array may be late to drop, and a host to come back after a drop."""


def messages(timeline: Timeline, host: str | None, event: int) -> list[Event]:
    """The Async Messages with AsyncEvent `event` that reached `host` (None: any), on the wire.

    Only those before the end of the scenario: the run does not wait for answers to later ones.
    """
    end = scenario_end(timeline)
    return [
        e
        for e in timeline.events("async", host)
        if e["event"] == event and e.get("source") == "wire" and e["t"] <= end
    ]


def _next(events: Collection[Event], since: float, until: float = float("inf")) -> Event | None:
    return next((e for e in events if since <= e["t"] < until), None)


def _unheard(timeline: Timeline, host: str, event: int) -> Answer:
    if not logins(timeline, host):
        return unknown(f"No login of {host} was seen on the wire.")
    return failed(f"{host} got no Async Message with event {event}.")


@check(sees=("capture of host", "decoder"), timed=True)
def asked_then_moved(host: str, virtual: str, to: str | Collection[str] | None = None) -> Look:
    """`host` followed each request to log out: it came back through the virtual port and moved.

    On the wire, in this order: Async Message event 1; Logout at the same portal; login at `virtual`
    answered 0x0101; accepted login at the TargetAddress of that answer. The new address differs
    from the old one. The last one is in `to` (None: any).
    """
    wanted = as_set(to) if to is not None else None

    def look(timeline: Timeline) -> Answer:
        asked = messages(timeline, host, LOGOUT)
        if not asked:
            return _unheard(timeline, host, LOGOUT)
        told, new = [], ""
        for at, message in enumerate(asked):
            until = asked[at + 1]["t"] if at + 1 < len(asked) else float("inf")
            good, text, new = _one_move(timeline, host, virtual, message, until)
            if not good:
                return failed(text)
            told.append(text)
        if wanted is not None and new not in wanted:
            return failed(f"{' '.join(told)} Expected {' or '.join(sorted(wanted))}.")
        return passed(" ".join(told))

    return look


def _one_move(
    timeline: Timeline, host: str, virtual: str, message: Event, until: float
) -> tuple[bool, str, str]:
    """Whether the host moved as `message` asked, the evidence, and its address afterwards."""
    old, began = ip_of(message["portal"]), message["t"]
    text = f"{host} was asked at {old}"
    logout = _next(
        [e for e in timeline.events("logout", host) if ip_of(e["portal"]) == old], began, until
    )
    if logout is None:
        return False, f"{text}, but did not log out.", ""
    text += f", logged out after {_ms(began, logout)}"
    back = _next(logins(timeline, host), logout["t"], until)
    if back is None:
        return False, f"{text}, but did not log in again.", ""
    if ip_of(back["portal"]) != ip_of(virtual):
        return False, f"{text}, but came back to {back['portal']}, not to {virtual}.", ""
    if back["status"] != REDIRECTED or not back["target_address"]:
        return False, f"{text}, but was answered {back['status']} at {virtual}.", ""
    new = ip_of(back["target_address"])
    text += f", was redirected by {ip_of(virtual)} to {new} after {_ms(began, back)}"
    if new == old:
        return False, f"{text}, its old address.", ""
    served = _next([e for e in logins(timeline, host, new) if e["status"] == SERVED],
                   back["t"], until)  # fmt: skip
    if served is None:
        return False, f"{text}, but did not log in there.", ""
    return True, f"{text} and logged in there after {_ms(began, served)}.", new


def _ms(began: float, event: Event) -> str:
    return f"{(event['t'] - began) * 1000:.0f} ms"


@check(sees=("capture", "decoder"))
def one_asked_at_a_time(at_least: int = 2) -> Look:
    """The array asked hosts to log out one at a time: each came back before the next request.

    On the wire: before the next request, the host that was asked is redirected (0x0101) to another
    address than the one where it was asked. There were at least `at_least` requests.
    """

    def look(timeline: Timeline) -> Answer:
        if not timeline.events("login"):
            return unknown("No login was seen on the wire.")
        asked = messages(timeline, None, LOGOUT)
        if len(asked) < at_least:
            return failed(f"{len(asked)} requests to log out; at least {at_least} expected.")
        for message, later in pairwise(asked):
            host, old = message["where"], ip_of(message["portal"])
            sent = [e for e in logins(timeline, host) if e["status"] == REDIRECTED]
            elsewhere = [e for e in sent if ip_of(e["target_address"] or "") != old]
            if _next(elsewhere, message["t"], later["t"]) is None:
                return failed(
                    f"{later['where']} was asked {_ms(message['t'], later)} after {host}, before "
                    f"{host} was redirected to another port."
                )
        names = ", then ".join(str(e["where"]) for e in asked)
        return passed(f"Asked to log out: {names}; each after the host before it came back.")

    return look


@check(sees=("capture of host", "decoder"), timed=True)
def dropped_after_grace(host: str, grace_s: float) -> Look:
    """`host` ignored a request to log out, and the array dropped it after `grace_s` seconds.

    On the wire: Async Message event 1, no Logout at that portal, and `grace_s` seconds later the
    array closes the connection. The host's I/O goes on until then.
    """

    def look(timeline: Timeline) -> Answer:
        asked = messages(timeline, host, LOGOUT)
        if not asked:
            return _unheard(timeline, host, LOGOUT)
        portal, began = ip_of(asked[0]["portal"]), asked[0]["t"]
        end = _next([e for e in timeline.events("hung-up", host)
                     if ip_of(e["portal"]) == portal], began)  # fmt: skip
        if end is None:
            return failed(f"{host} was asked at {portal} and is still connected there.")
        after = end["t"] - began
        if _next(timeline.events("logout", host), began, end["t"]):
            return failed(f"{host} was asked at {portal} and did log out.")
        text = f"{host} was asked at {portal}; the {end['by']} hung up {after:.3f} s later"
        if end["by"] != "array":
            return failed(f"{text}, not the array.")
        if not grace_s <= after <= grace_s + DROP_LATE_S:
            return failed(f"{text}; the grace time is {grace_s:g} s.")
        done = [e for e in timeline.events("io", host)
                if e["status"] == "ok" and began < e["t"] < end["t"]]  # fmt: skip
        if not done:
            return unknown(f"{text}, but no I/O between shows that the host kept the connection.")
        return passed(f"{text}; {len(done)} operations completed in between.")

    return look


@check(sees=("capture of host", "decoder"))
def drop_announced(host: str, virtual: str, event: int) -> Look:
    """The array announced that it drops `host`, did so, and the host came back after Time2Wait.

    On the wire: Async Message `event` (2 or 3); the array closes the connection; a login at
    `virtual` after Time2Wait (Parameter2, seconds) and at most a second later.
    """

    def look(timeline: Timeline) -> Answer:
        told = messages(timeline, host, event)
        if not told:
            return _unheard(timeline, host, event)
        portal, began, wait = ip_of(told[0]["portal"]), told[0]["t"], told[0]["parameters"][1]
        end = _next([e for e in timeline.events("hung-up", host)
                     if ip_of(e["portal"]) == portal], began)  # fmt: skip
        if end is None or end["by"] != "array":
            by = "nobody" if end is None else f"the {end['by']}"
            return failed(f"After event {event} to {host} {by} hung up at {portal}.")
        text = f"The array sent {host} event {event} and hung up {_ms(began, end)} later"
        back = _next(logins(timeline, host, virtual), end["t"])
        if back is None:
            return failed(f"{text}; {host} did not come back to {virtual}.")
        took = back["t"] - end["t"]
        text += f"; {host} came back to {ip_of(virtual)} after {took:.3f} s, Time2Wait {wait} s"
        # A login is timed at its answer, and the host's timers are off by some milliseconds.
        if not wait - 0.05 <= took <= wait + DROP_LATE_S:
            return failed(f"{text}.")
        return passed(f"{text}.")

    return look


@check(sees=("capture", "decoder"), timed=True)
def logins_sent_to(
    host: str, to: str | None, *, status: str = REDIRECTED, at: str | None = None, times: int = 1
) -> Look:
    """The array answered at least `times` logins of `host` (at the address `at`) with `status`.

    `to`: the exact text of TargetAddress in the answer; None: no TargetAddress, or an empty one.
    """

    def look(timeline: Timeline) -> Answer:
        seen = logins(timeline, host, at)
        if not seen:
            return unknown(f"No login of {host} was seen on the wire.")
        found = [e for e in seen if e["status"] == status and (e["target_address"] or None) == to]
        answers = sorted({f"{e['status']} {e['target_address'] or ''}".strip() for e in seen})
        named = f"TargetAddress {to}" if to else "no TargetAddress"
        text = f"{len(found)} of {len(seen)} logins of {host} were answered {status}, {named}"
        if len(found) < times:
            return failed(f"{text}, not {times}; answers seen: {', '.join(answers)}.")
        return passed(f"{text}; the last answer was {seen[-1]['status']}.")

    return look


@check(sees=("capture of host", "decoder"), timed=True)
def came_back_to(host: str, address: str) -> Look:
    """After its first logout `host` logged in at `address`."""

    def look(timeline: Timeline) -> Answer:
        out = timeline.events("logout", host)
        if not out:
            return unknown(f"No logout of {host} was seen on the wire.")
        back = _next(logins(timeline, host), out[0]["t"])
        text = f"{host} logged out from {out[0]['portal']}"
        if back is None:
            return failed(f"{text} and did not log in again.")
        text += f"; {_ms(out[0]['t'], back)} later its login was answered {back['status']} at"
        if ip_of(back["portal"]) != ip_of(address):
            return failed(f"{text} {back['portal']}, not at {address}.")
        return passed(f"{text} {back['portal']}.")

    return look


@check(timed=True)
def connection_counts(moment: str, counts: str) -> Look:
    """At `moment` the array's kernel had these numbers of host connections: "p1 1, p2 0"."""
    wanted = dict(pair.split() for pair in counts.split(", "))

    def look(timeline: Timeline) -> Answer:
        found = [e for e in timeline.events("connections") if e["moment"] == moment]
        if not found:
            return unknown(f"No count of connections at the moment {moment!r} was recorded.")
        had = {name: str(found[-1]["ports"].get(name, "unknown")) for name in wanted}
        text = ", ".join(f"{name} {count}" for name, count in had.items())
        text = f"Connections per port at the moment {moment!r}: {text}"
        return passed(f"{text}.") if had == wanted else failed(f"{text}; expected {counts}.")

    return look
