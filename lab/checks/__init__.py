"""Checks: pure functions from a timeline to a verdict with its evidence."""

from lab.checks.address import moved_to, one_owner_of_virtual_address
from lab.checks.disk import no_io_errors, no_lost_writes, stall_below
from lab.checks.heads import fenced_before_moved
from lab.checks.measures import measures
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
    "discovery_hides_ports",
    "drop_announced",
    "dropped_after_grace",
    "fenced_before_moved",
    "judge",
    "kernel_quiet",
    "login_answered",
    "logins_sent_to",
    "measures",
    "moved_to",
    "new_login",
    "no_io_errors",
    "no_lost_writes",
    "one_asked_at_a_time",
    "one_owner_of_virtual_address",
    "overall",
    "reached",
    "redirected_at_login",
    "same_connection",
    "same_disk",
    "served_at",
    "session_survived",
    "sessions_spread",
    "stall_below",
]
