"""Portals: the address and TCP port of one end of an iSCSI connection, and how they are written."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any

from lab.errors import BadInput

ISCSI_PORT = 3260
"""The port of iSCSI targets (RFC 7143, section 4.2.7)."""
_BRACKETED = re.compile(r"\[([^\]]*)\](?::(\d+))?")


@dataclass(frozen=True, order=True)
class Portal:
    """An IP address, in its shortest spelling (RFC 5952), and a TCP port.

    Its text has the form of TargetAddress (RFC 7143, section 13.8): "10.0.0.1:3260",
    "[fd00::1]:3260".
    """

    address: str
    port: int = ISCSI_PORT

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.six else f"{self.address}:{self.port}"

    @property
    def six(self) -> bool:
        """Whether the address is one of IPv6."""
        return ":" in self.address

    @classmethod
    def parse(cls, text: str) -> Portal:
        """The portal in "10.0.0.1", "10.0.0.1:3260", "fd00::1" or "[fd00::1]:3260".

        A portal group tag (",1") may follow. Raises BadInput for any other text.
        """
        address, port = text.split(",")[0].strip(), str(ISCSI_PORT)
        bracketed = _BRACKETED.fullmatch(address)
        if bracketed:
            address, port = bracketed[1], bracketed[2] or port
        elif address.count(":") == 1:
            address, port = address.split(":")
        try:
            shortest = str(ipaddress.ip_address(address.split("%")[0]))
            if not (port.isdecimal() and 0 < int(port) < 65536):
                raise ValueError
        except ValueError:
            raise BadInput(f"portal {text!r}: not an IP address with an optional port") from None
        return cls(shortest, int(port))

    @classmethod
    def of(cls, name: tuple[Any, ...]) -> Portal:
        """The portal of a socket's name, as getsockname() and getpeername() have it."""
        return cls(str(ipaddress.ip_address(str(name[0]).split("%")[0])), int(name[1]))


def ip_of(text: str) -> str:
    """The address in a portal, or in an address with a prefix length ("10.0.0.1/24").

    Addresses come in one spelling, so that two of them can be compared. Any other text, such as a
    name, stays as it is: what an array told a host is judged, not refused.
    """
    try:
        return Portal.parse(text.split("/")[0]).address
    except BadInput:
        return re.sub(r":\d+$", "", text.split(",")[0].split("/")[0].strip())
