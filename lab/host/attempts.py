"""Logins and discoveries that the array may refuse. A refusal is recorded and raises nothing.

For open-iscsi only: its host has a kernel that lists the sessions.
"""

from __future__ import annotations

from lab.host.host import LabHost

GIVES_UP = {
    "node.session.initial_login_retry_max": "1",
    "node.conn[0].timeo.login_timeout": "3",
}
"""If the array hangs up without an answer, open-iscsi retries for 3 s, not 120 s."""


def try_discovery(host: LabHost) -> None:
    """Let `host` send SendTargets to the virtual port, and record how it ended."""
    at = host.lab.array.virtual
    _try(host, "discovery", at, ["-m", "discovery", "-t", "st", "-p", at])


def try_login(host: LabHost, at: str | None = None) -> None:
    """Let `host` log in at the address `at` (None: the virtual port), and record how it ended.
    Discovery is not needed before."""
    at = at or host.lab.array.virtual
    for name, value in GIVES_UP.items():
        host.open_iscsi.configure(name, value)
    node = ["-m", "node", "-T", host.lab.array.spec.iqn, "-p", at]
    host.kernel.runner.run(["iscsiadm", *node, "-o", "new"])
    _try(host, "login", at, [*node, "--login"])


def _try(host: LabHost, what: str, at: str, arguments: list[str]) -> None:
    """Record the exit status of iscsiadm (open-iscsi, iscsi_err.h; 0: logged in)."""
    ended = host.kernel.runner.run(["iscsiadm", *arguments], seconds=60.0, check=False)
    sessions = len(host.open_iscsi.sessions())
    host.lab.timeline.add(
        host.name, "attempt", what=what, portal=at, status=ended.status, sessions=sessions
    )
