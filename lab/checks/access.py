"""Checks of access: who could log in, with what CHAP proof, and that no secret leaks."""

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
    text = f"The array answered the {what} of {host} with {', '.join(sorted(answers))}"
    text += f"; iscsiadm exited with {ended}"
    good = answers == {status} and all(e["status"] for e in attempts)
    return passed(f"{text}.") if good else failed(f"{text}; expected {status} and a failure.")


@check(sees=("capture of host", "decoder"))
def login_refused(host: str, at: str | Collection[str], status: str) -> Look:
    """The array answered each login of `host` at the addresses `at` with `status`; all failed."""
    return lambda timeline: _refused(timeline, "login", host, at, status)


@check(sees=("capture of host", "decoder"))
def discovery_refused(host: str, at: str, status: str) -> Look:
    """The array answered each discovery of `host` at `at` with `status` and named no portal."""

    def look(timeline: Timeline) -> Answer:
        named = [p for e in timeline.events("discovery-wire", host) for p in e["portals"]]
        if named:
            return failed(f"Discovery of {host} returned {', '.join(sorted(set(named)))}.")
        return _refused(timeline, "discovery", host, at, status)

    return look


@check(sees=("capture of host", "decoder"))
def host_refused(host: str, at: str | Collection[str]) -> Look:
    """`host` itself ended each of its logins at the addresses `at`.

    It does so when the target does not prove itself by CHAP.
    """

    def look(timeline: Timeline) -> Answer:
        attempts = _attempts(timeline, host, "login")
        logins = _at(timeline, "login", host, as_set(at))
        if not attempts or not logins:
            return unknown(f"No login of {host} at {' or '.join(sorted(as_set(at)))} was seen.")
        answered = [str(e["status"]) for e in logins if e["status"]]
        ended = ", ".join(str(e["status"]) for e in attempts)
        if answered:
            return failed(f"The array ended the login with {', '.join(answered)}.")
        if not all(_host_hung_up(timeline, login) for login in logins):
            return failed(f"{host} did not close its connection; iscsiadm exited with {ended}.")
        if not all(e["status"] for e in attempts):
            return failed(f"{host} closed the connection, but its login succeeded in the end.")
        return passed(f"{host} closed the connection during login; iscsiadm exited with {ended}.")

    return look


@check(sees=("capture of host", "decoder"))
def nothing_served(host: str) -> Look:
    """`host` tried to log in and got nothing: no session, no answer to a SCSI command.

    Needs the attempts, the sessions in the host's kernel after each, and full captures.
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
            return unknown("No observer looked for answers to SCSI commands on the wire.")
        return passed(
            f"{len(attempts)} attempts of {host}: the array accepted no login and answered no "
            "SCSI command, and the host had no session afterwards."
        )

    return look


@check(sees=("capture of host", "decoder"))
def proved(host: str, at: str | Collection[str], who: Collection[str]) -> Look:
    """Each login of `host` that `at` accepted had a CHAP proof from all in `who`.

    `who` names "host", "target" or both.
    """
    wanted = sorted(who)

    def look(timeline: Timeline) -> Answer:
        accepted = [e for e in _at(timeline, "login", host, as_set(at)) if e["status"] == "0x0000"]
        if not accepted:
            return unknown(f"No accepted login of {host} was seen there.")
        for login in accepted:
            shown = sorted(set(login.get("proved", [])))
            if shown != wanted:
                by = " and ".join(shown) or "nobody"
                return failed(f"{host} logged in at {login['portal']} with a proof by {by}.")
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
            return unknown("No search for secrets was recorded.")
        last = sought[-1]
        text = f"{last['files']} files were searched for {last['secrets']} secrets"
        if last["found"]:
            return failed(f"{text}; found in {', '.join(last['found'])}.")
        return passed(f"{text}; none was found.")

    return look
