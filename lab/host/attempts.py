"""Logins and discoveries that the array may refuse; the result is recorded and is no error.

Only with open-iscsi, whose host has a kernel that lists the sessions.
"""

from __future__ import annotations

from lab.host.host import LabHost

GIVES_UP = {
    "node.session.initial_login_retry_max": "1",
    "node.conn[0].timeo.login_timeout": "3",
}
"""The host tries again for 3 s, not 120, if the array hangs up without an answer."""


def try_discovery(host: LabHost) -> None:
    """Let `host` try a discovery at the virtual port and record the result (kind `attempt`)."""
    at = host.lab.array.virtual
    _try(host, "discovery", at, ["-m", "discovery", "-t", "st", "-p", at])


def try_login(host: LabHost, at: str | None = None) -> None:
    """Let `host` try a login at the address `at` and record the result (kind `attempt`).

    None means the virtual port. No discovery is needed before.
    """
    at = at or host.lab.array.virtual
    for name, value in GIVES_UP.items():
        host.open_iscsi.configure(name, value)
    node = ["-m", "node", "-T", host.lab.array.spec.iqn, "-p", at]
    host.kernel.runner.run(["iscsiadm", *node, "-o", "new"])
    _try(host, "login", at, [*node, "--login"])


def _try(host: LabHost, what: str, at: str, arguments: list[str]) -> None:
    """`status` is iscsiadm's exit status (open-iscsi, iscsi_err.h; 0: success)."""
    ended = host.kernel.runner.run(["iscsiadm", *arguments], seconds=60.0, check=False)
    sessions = len(host.open_iscsi.sessions())
    host.lab.timeline.add(
        host.name, "attempt", what=what, portal=at, status=ended.status, sessions=sessions
    )
