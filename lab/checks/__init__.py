"""Checks: pure functions from a timeline to a verdict with its evidence.

Your own checks need only what this package exports. A check is a factory with the decorator
`check`: it takes what to judge and returns a Look. The Look takes the Timeline and returns an
Answer: `passed`, `failed` or `unknown`, each with a sentence of evidence. Where the timeline
says nothing, answer `unknown`. `sees` names the observers without whose whole evidence a pass is
unknown (lab.evidence has the list; "capture of host": that of the argument `host`). `timed=True`
makes a fail unknown on a busy machine, for a check that fails by lateness.

    from lab.checks import Answer, Look, Timeline, check, failed, owners_at, passed, unknown

    @check(sees=("addresses",))
    def always_owned(address: str) -> Look:
        def look(timeline: Timeline) -> Answer:
            if not timeline.events("address"):
                return unknown("No address was watched.")
            ports = owners_at(timeline, address)
            return passed(f"It is on {ports}.") if ports else failed("It is on no port.")

        return look

Helpers: `ownership` and `owners_at` say which port had an address, and when. `claims` gives the
announcements and ARP claims of an address on the wire. `config`, `port_addresses` and
`virtual_addresses` describe the lab. `ip_of` and `as_set` make portals comparable. `logins` and
`sessions` give those of a host; `gaps`, `longest_gap`, `load_intervals` and `acknowledged` give its
I/O. `time_of` is when the scenario marked a moment (Lab.mark); `scenario_end` is when it ended.
`judge` applies checks to a timeline and returns Findings; `overall` gives their joint Verdict.
"""

from lab.checks.access import (
    discovery_refused,
    host_refused,
    login_refused,
    no_secret_leaked,
    nothing_served,
    proved,
)
from lab.checks.address import (
    Owned,
    claims,
    moved_to,
    one_owner_of_virtual_address,
    owners_at,
    ownership,
)
from lab.checks.disk import (
    Gap,
    Interval,
    acknowledged,
    gaps,
    load_intervals,
    longest_gap,
    no_io_errors,
    no_lost_writes,
    stall_below,
)
from lab.checks.endurance import frames_dropped, recovered_after_errors, stayed_logged_in
from lab.checks.heads import fenced_before_moved
from lab.checks.identity import (
    reservation_unchanged,
    same_identity,
    writes_allowed,
    writes_refused,
)
from lab.checks.measures import measures
from lab.checks.moments import scenario_end, time_of
from lab.checks.moves import (
    controller_restarted,
    front_restarted,
    home_after_hold,
    moved_times,
    unannounced,
)
from lab.checks.portals import as_set, config, port_addresses, virtual_addresses
from lab.checks.requests import (
    asked_then_moved,
    came_back_to,
    connection_counts,
    drop_announced,
    dropped_after_grace,
    logins_sent_to,
    one_asked_at_a_time,
)
from lab.checks.run import kernel_quiet, reached
from lab.checks.serving import login_answered, same_disk
from lab.checks.session import (
    discovery_hides_ports,
    logins,
    new_login,
    redirected_at_login,
    same_connection,
    served_at,
    session_survived,
    sessions,
    sessions_spread,
)
from lab.checks.swaps import swaps_agree
from lab.checks.verdict import (
    FACTORIES,
    Answer,
    Check,
    Finding,
    Look,
    NamedCheck,
    Verdict,
    check,
    failed,
    judge,
    overall,
    passed,
    unknown,
)
from lab.portal import ip_of
from lab.timeline import Event, Timeline

__all__ = [
    "FACTORIES",
    "Answer",
    "Check",
    "Event",
    "Finding",
    "Gap",
    "Interval",
    "Look",
    "NamedCheck",
    "Owned",
    "Timeline",
    "Verdict",
    "acknowledged",
    "as_set",
    "asked_then_moved",
    "came_back_to",
    "check",
    "claims",
    "config",
    "connection_counts",
    "controller_restarted",
    "discovery_hides_ports",
    "discovery_refused",
    "drop_announced",
    "dropped_after_grace",
    "failed",
    "fenced_before_moved",
    "frames_dropped",
    "front_restarted",
    "gaps",
    "home_after_hold",
    "host_refused",
    "ip_of",
    "judge",
    "kernel_quiet",
    "load_intervals",
    "login_answered",
    "login_refused",
    "logins",
    "logins_sent_to",
    "longest_gap",
    "measures",
    "moved_times",
    "moved_to",
    "new_login",
    "no_io_errors",
    "no_lost_writes",
    "no_secret_leaked",
    "nothing_served",
    "one_asked_at_a_time",
    "one_owner_of_virtual_address",
    "overall",
    "owners_at",
    "ownership",
    "passed",
    "port_addresses",
    "proved",
    "reached",
    "recovered_after_errors",
    "redirected_at_login",
    "reservation_unchanged",
    "same_connection",
    "same_disk",
    "same_identity",
    "scenario_end",
    "served_at",
    "session_survived",
    "sessions",
    "sessions_spread",
    "stall_below",
    "stayed_logged_in",
    "swaps_agree",
    "time_of",
    "unannounced",
    "unknown",
    "virtual_addresses",
    "writes_allowed",
    "writes_refused",
]
