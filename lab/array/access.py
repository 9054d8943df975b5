"""Who may log in, the secrets of both sides, and a search for secrets in a run folder."""

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
"""The folder with the disks, inside the run folder."""
_PIECE = 1 << 20


@dataclass(frozen=True)
class Secrets:
    """The CHAP accounts that one side of a login knows (RFC 7143 section 12.1).

    `login` authenticates the host to a target. `mutual` (an account with mutual=True) authenticates
    the target to the host. `discovery` authenticates the host in a discovery session. None: no
    authentication. Raises BadInput for accounts that no target accepts or of the wrong direction.
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

    `array`: the accounts that the array requires. Hosts have the same ones, except those in `hosts`
    (host name to its own accounts). `allowed`: names of the hosts that may log in; empty: all.
    """

    array: Secrets = field(default_factory=Secrets)
    hosts: dict[str, Secrets] = field(default_factory=dict)
    allowed: tuple[str, ...] = ()

    def known_to(self, host: str) -> Secrets:
        """What `host` is configured with."""
        return self.hosts.get(host, self.array)

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts named here."""
        return (*self.hosts, *self.allowed)

    @property
    def secrets(self) -> frozenset[str]:
        """Every secret that anybody knows."""
        sides = (self.array, *self.hosts.values())
        found = [one for s in sides for one in (s.login, s.mutual, s.discovery) if one]
        return frozenset(account.secret for account in found)


def seek_secrets(folder: Path, secrets: Collection[str], timeline: Timeline) -> None:
    """Look for `secrets` in every file of a run folder except the disks, which hosts write to.

    The timeline gets the number of secrets and files, and the files that hold a secret, but no
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
