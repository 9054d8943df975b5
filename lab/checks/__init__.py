"""Checks: pure functions from a timeline to a verdict with its evidence."""

from lab.checks.address import moved_to, one_owner_of_virtual_address
from lab.checks.disk import no_io_errors, no_lost_writes, stall_below
from lab.checks.measures import measures
from lab.checks.run import kernel_quiet, reached
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
    "discovery_hides_ports",
    "judge",
    "kernel_quiet",
    "measures",
    "moved_to",
    "new_login",
    "no_io_errors",
    "no_lost_writes",
    "one_owner_of_virtual_address",
    "overall",
    "reached",
    "redirected_at_login",
    "same_connection",
    "served_at",
    "session_survived",
    "sessions_spread",
    "stall_below",
]
