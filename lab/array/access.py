"""Who may log in, what both sides know for that, and where a secret must never be found."""

from __future__ import annotations

import html
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.errors import BadInput
from lab.timeline import Timeline
from targets.base import ChapAccount, check_accounts

DISKS = "luns"
"""The folder of a run folder in which its disks are."""
_PIECE = 1 << 20


@dataclass(frozen=True)
class Secrets:
    """What one side of a login knows (RFC 7143 section 12.1).

    With `login` a host proves itself at a target, with `mutual` (an account marked so) the target
    proves itself to the host, with `discovery` a host proves itself at discovery. None: nothing.
    Raises BadInput for accounts that no target takes, or that are for another direction.
    """

    login: ChapAccount | None = None
    mutual: ChapAccount | None = None
    discovery: ChapAccount | None = None

    def __post_init__(self) -> None:
        check_accounts("secrets for a login", self.of_target)
        check_accounts("secrets for discovery", [self.discovery] if self.discovery else [])
        for name, account in (("login", self.login), ("mutual", self.mutual)):
            if account and account.mutual != (name == "mutual"):
                raise BadInput(f"secrets: {name}={account}: mutual=True is for mutual alone")

    @property
    def of_target(self) -> tuple[ChapAccount, ...]:
        """The accounts of a target."""
        return tuple(account for account in (self.login, self.mutual) if account)


@dataclass(frozen=True)
class Access:
    """Login security: by default none.

    `array`: what the array asks for and knows. Hosts know the same, but for those in `hosts` (host
    name to what it knows instead). `allowed`: the hosts that may log in, by name; empty: all.
    """

    array: Secrets = field(default_factory=Secrets)
    hosts: dict[str, Secrets] = field(default_factory=dict)
    allowed: tuple[str, ...] = ()

    def known_to(self, host: str) -> Secrets:
        """What `host` is configured with."""
        return self.hosts.get(host, self.array)

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts that it names."""
        return (*self.hosts, *self.allowed)

    @property
    def secrets(self) -> frozenset[str]:
        """Every secret that anybody knows."""
        sides = (self.array, *self.hosts.values())
        found = [one for s in sides for one in (s.login, s.mutual, s.discovery) if one]
        return frozenset(account.secret for account in found)


def seek_secrets(folder: Path, secrets: Collection[str], timeline: Timeline) -> None:
    """Look for `secrets` in every file of a run folder, but for the disks, which hosts write to.

    Puts on `timeline` how many secrets and files there were, and which files hold one: never a
    secret. Raises OSError for a file that cannot be read.
    """
    wanted = sorted({form.encode() for secret in secrets for form in _forms(secret)})
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] != DISKS
    ]
    found = [str(path.relative_to(folder)) for path in files if _holds(path, wanted)]
    count = len(set(secrets))
    timeline.add("lab", "secrets-sought", secrets=count, files=len(files), found=found)


def _forms(secret: str) -> set[str]:
    """How a text file can hold it: as it is, in a timeline or result, in a report."""
    return {secret, json.dumps(secret)[1:-1], html.escape(secret)}


def _holds(path: Path, wanted: Sequence[bytes]) -> bool:
    overlap = max(map(len, wanted), default=1) - 1
    kept = b""
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            kept += piece
            if any(secret in kept for secret in wanted):
                return True
            kept = kept[max(0, len(kept) - overlap) :]
    return False
