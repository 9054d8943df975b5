"""Checks of CHAP and access: which logins were accepted or refused, and that no secret leaks."""

from __future__ import annotations

from collections.abc import Collection

from lab.checks.portals import as_set, config
from lab.checks.verdict import Answer, Look, check, failed, passed, unknown
from lab.portal import ip_of
from lab.timeline import Event, Timeline


def _attempts(timeline: Timeline, host: str, what: str) -> list[Event]:
    return [e for e in timeline.events("attempt", host) if e["what"] == what]


def _at(timeline: Timeline, kind: str, host: str, portals: frozenset[str]) -> list[Event]:
    return [e for e in timeline.events(kind, host) if ip_of(e["portal"]) in portals]


def _host_hung_up(timeline: Timeline, login: Event) -> bool:
    """Whether the host, not the array, ended the connection of a login."""
    ends = timeline.events("hung-up", login["where"])
    after = [e for e in ends if e["portal"] == login["portal"] and e["t"] >= login["t"]]
    return bool(after) and after[0]["by"] == "host"


def _refused(
    timeline: Timeline, what: str, host: str, at: str | Collection[str], status: str
) -> Answer:
    attempts = _attempts(timeline, host, what)
    kind = "login" if what == "login" else "discovery-login"
    logins = _at(timeline, kind, host, as_set(at))
    answers = {str(e["status"] or "nothing") for e in logins}
    if not attempts or not answers:
        return unknown(f"No {what} of {host} at {' or '.join(sorted(as_set(at)))} was seen.")
    ended = ", ".join(str(e["status"]) for e in attempts)
    text = f"The {what} of {host} was answered {', '.join(sorted(answers))}"
    text += f"; iscsiadm ended with {ended}"
    good = answers == {status} and all(e["status"] for e in attempts)
    return passed(f"{text}.") if good else failed(f"{text}; expected {status} and a failure.")


@check
def login_refused(host: str, at: str | Collection[str], status: str) -> Look:
    """Each login of `host` at the addresses `at` was answered `status`, and iscsiadm failed."""
    return lambda timeline: _refused(timeline, "login", host, at, status)


@check
def discovery_refused(host: str, at: str, status: str) -> Look:
    """Each discovery of `host` at `at` was answered `status` and named no portal."""

    def look(timeline: Timeline) -> Answer:
        named = [p for e in timeline.events("discovery-wire", host) for p in e["portals"]]
        if named:
            return failed(f"{host} was told {', '.join(sorted(set(named)))}.")
        return _refused(timeline, "discovery", host, at, status)

    return look


@check
def host_refused(host: str, at: str | Collection[str]) -> Look:
    """`host` ended each login at the addresses `at`: the target failed to authenticate itself."""

    def look(timeline: Timeline) -> Answer:
        attempts = _attempts(timeline, host, "login")
        logins = _at(timeline, "login", host, as_set(at))
        if not attempts or not logins:
            return unknown(f"No login of {host} at {' or '.join(sorted(as_set(at)))} was seen.")
        answered = [str(e["status"]) for e in logins if e["status"]]
        ended = ", ".join(str(e["status"]) for e in attempts)
        if answered:
            return failed(f"The array answered the login: {', '.join(answered)}.")
        if not all(_host_hung_up(timeline, login) for login in logins):
            return failed(f"{host} did not close its connection; iscsiadm ended with {ended}.")
        if not all(e["status"] for e in attempts):
            return failed(f"{host} hung up, but a later login succeeded.")
        return passed(f"{host} hung up in the middle of the login; iscsiadm ended with {ended}.")

    return look


@check
def nothing_served(host: str) -> Look:
    """`host` tried to log in and got nothing: no session, no answer to a SCSI command.

    Evidence: the attempts, the host kernel's sessions after each, and full packet captures.
    """

    def look(timeline: Timeline) -> Answer:
        attempts = _attempts(timeline, host, "login")
        let_in = [e for e in timeline.events("login", host) if e["status"] == "0x0000"]
        sessions = [e for e in attempts if e["sessions"]] + timeline.events("session", host)
        answered = timeline.events("scsi", host)
        for found, what in (
            (let_in, "logged in"),
            (sessions, "had a session"),
            (answered, "got an answer to a SCSI command"),
        ):
            if found:
                at = f" at {found[0]['portal']}" if "portal" in found[0] else ""
                return failed(f"{host} {what}{at}.")
        if not attempts:
            return unknown(f"{host} did not try to log in.")
        if not config(timeline).get("scsi_on_wire"):
            return unknown("The capture did not look for answers to SCSI commands.")
        return passed(
            f"{len(attempts)} attempts of {host}: no login accepted, no session left, no SCSI "
            "command answered."
        )

    return look


@check
def proved(host: str, at: str | Collection[str], who: Collection[str]) -> Look:
    """In each login of `host` accepted at the addresses `at`, all of `who` authenticated by CHAP.

    `who`: "host", "target", or both.
    """
    wanted = sorted(who)

    def look(timeline: Timeline) -> Answer:
        accepted = [e for e in _at(timeline, "login", host, as_set(at)) if e["status"] == "0x0000"]
        if not accepted:
            return unknown(f"No login of {host} was accepted there.")
        for login in accepted:
            shown = sorted(set(login.get("proved", [])))
            if shown != wanted:
                by = " and ".join(shown) or "nobody"
                return failed(f"{host} logged in at {login['portal']}; CHAP authenticated {by}.")
        return passed(
            f"{len(accepted)} logins of {host}; CHAP authenticated {' and '.join(wanted)} in each."
        )

    return look


@check
def no_secret_leaked() -> Look:
    """No file of the run folder holds a secret: no log, timeline, capture, result or report."""

    def look(timeline: Timeline) -> Answer:
        sought = timeline.events("secrets-sought")
        if not sought or not sought[-1]["secrets"] or not sought[-1]["files"]:
            return unknown("The run folder was not searched for secrets.")
        last = sought[-1]
        text = f"Searched {last['files']} files for {last['secrets']} secrets"
        if last["found"]:
            return failed(f"{text}; found in {', '.join(last['found'])}.")
        return passed(f"{text}; found none.")

    return look
