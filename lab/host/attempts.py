"""Logins and discoveries that the array may refuse: how each ended, not an error if it did.

With open-iscsi, whose host has a kernel that tells what sessions there are.
"""

from __future__ import annotations

from lab.host.host import LabHost

GIVES_UP = {
    "node.session.initial_login_retry_max": "1",
    "node.conn[0].timeo.login_timeout": "3",
}
"""An array that hangs up without an answer is asked again for as long: 3 s, not 120."""


def try_discovery(host: LabHost) -> None:
    """Let `host` ask the virtual port for portals, and put on the timeline how that ended."""
    at = host.lab.array.virtual
    _try(host, "discovery", at, ["-m", "discovery", "-t", "st", "-p", at])


def try_login(host: LabHost, at: str | None = None) -> None:
    """Let `host` log in at the address `at` (None: the virtual port), which it need not have
    discovered, and put on the timeline how that ended."""
    at = at or host.lab.array.virtual
    for name, value in GIVES_UP.items():
        host.open_iscsi.configure(name, value)
    node = ["-m", "node", "-T", host.lab.array.spec.iqn, "-p", at]
    host.kernel.runner.run(["iscsiadm", *node, "-o", "new"])
    _try(host, "login", at, [*node, "--login"])


def _try(host: LabHost, what: str, at: str, arguments: list[str]) -> None:
    """`status` is what iscsiadm ended with (open-iscsi, iscsi_err.h; 0: let in)."""
    ended = host.kernel.runner.run(["iscsiadm", *arguments], seconds=60.0, check=False)
    sessions = len(host.open_iscsi.sessions())
    host.lab.timeline.add(
        host.name, "attempt", what=what, portal=at, status=ended.status, sessions=sessions
    )
