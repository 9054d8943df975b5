"""The names of iSCSI nodes: targets and initiators."""

from __future__ import annotations

import re

from lab.errors import BadInput

LONGEST = 223
"""Bytes that a name may have (RFC 7143, section 4.2.7.2)."""
# The three forms of section 4.2.7.3, in the characters that RFC 3722 allows. Hosts compare names
# byte by byte, so only lower-case spelling is accepted.
_NAME = re.compile(
    r"iqn\.\d{4}-\d{2}\.[a-z0-9-]+(\.[a-z0-9-]+)*(:[a-z0-9.:-]+)?"
    r"|eui\.[0-9a-f]{16}|naa\.([0-9a-f]{16}|[0-9a-f]{32})"
)


def check_iqn(name: str, place: str) -> None:
    """Raise BadInput, naming `place`, unless `name` is a valid iSCSI name."""
    if not _NAME.fullmatch(name) or len(name) > LONGEST:
        raise BadInput(
            f"{place}: {name!r} is not an iSCSI name such as iqn.2026-01.org.example:disk"
        )
