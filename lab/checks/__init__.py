"""Checks: pure functions from a timeline to a verdict with its evidence."""

from lab.checks.access import (
    discovery_refused,
    host_refused,
    login_refused,
    no_secret_leaked,
    nothing_served,
    proved,
)
from lab.checks.address import moved_to, one_owner_of_virtual_address
from lab.checks.disk import no_io_errors, no_lost_writes, stall_below
from lab.checks.endurance import frames_dropped, recovered_after_errors, stayed_logged_in
from lab.checks.heads import fenced_before_moved
from lab.checks.identity import (
    reservation_unchanged,
    same_identity,
    writes_allowed,
    writes_refused,
)
from lab.checks.measures import measures
from lab.checks.moves import (
    controller_restarted,
    front_restarted,
    home_after_hold,
    moved_times,
    unannounced,
)
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
    new_login,
    redirected_at_login,
    same_connection,
    served_at,
    session_survived,
    sessions_spread,
)
from lab.checks.verdict import FACTORIES, Check, Finding, Verdict, judge, overall

__all__ = [
    "FACTORIES",
    "Check",
    "Finding",
    "Verdict",
    "asked_then_moved",
    "came_back_to",
    "connection_counts",
    "controller_restarted",
    "discovery_hides_ports",
    "discovery_refused",
    "drop_announced",
    "dropped_after_grace",
    "fenced_before_moved",
    "frames_dropped",
    "front_restarted",
    "home_after_hold",
    "host_refused",
    "judge",
    "kernel_quiet",
    "login_answered",
    "login_refused",
    "logins_sent_to",
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
    "proved",
    "reached",
    "recovered_after_errors",
    "redirected_at_login",
    "reservation_unchanged",
    "same_connection",
    "same_disk",
    "same_identity",
    "served_at",
    "session_survived",
    "sessions_spread",
    "stall_below",
    "stayed_logged_in",
    "unannounced",
    "writes_allowed",
    "writes_refused",
]
