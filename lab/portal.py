"""Portals: the address and TCP port of one end of an iSCSI connection."""

from __future__ import annotations

import ipaddress
import re
import socket
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
        return f"{self.host}:{self.port}"

    @property
    def host(self) -> str:
        """The address as a URL has it: IPv6 in brackets."""
        return f"[{self.address}]" if ":" in self.address else self.address

    @classmethod
    def parse(cls, text: str, *, any_port: bool = False) -> Portal:
        """The portal in "10.0.0.1", "10.0.0.1:3260", "fd00::1" or "[fd00::1]:3260".

        A portal group tag (",1") may follow. `any_port` also allows port 0, for which the kernel
        chooses one. Raises BadInput for any other text.
        """
        address, port = text.split(",")[0].strip(), str(ISCSI_PORT)
        bracketed = _BRACKETED.fullmatch(address)
        if bracketed:
            address, port = bracketed[1], bracketed[2] or port
        elif address.count(":") == 1:
            address, port = address.split(":")
        try:
            shortest = str(ipaddress.ip_address(address.split("%")[0]))
            if not (port.isdecimal() and (not any_port) <= int(port) < 65536):
                raise ValueError
        except ValueError:
            raise BadInput(f"portal {text!r}: not an IP address with an optional port") from None
        return cls(shortest, int(port))

    @property
    def family(self) -> socket.AddressFamily:
        """The address family."""
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET

    @property
    def name(self) -> tuple[str, int]:
        """Address and port as a socket takes them."""
        return self.address, self.port

    @classmethod
    def of(cls, name: tuple[Any, ...]) -> Portal:
        """The portal of a socket's name, as getsockname() and getpeername() return it."""
        return cls(str(ipaddress.ip_address(str(name[0]).split("%")[0])), int(name[1]))


def ip_of(text: str) -> str:
    """The address in a portal, or in an address with a prefix length ("10.0.0.1/24").

    Addresses get one spelling, so that they can be compared. Other text, such as a name, stays as
    it is: a check must be able to judge whatever an array told a host.
    """
    try:
        return Portal.parse(text.split("/")[0]).address
    except BadInput:
        bare = text.split(",")[0].split("/")[0].strip()
        if bare.startswith("["):
            bare = bare[1:].split("]")[0]
        elif bare.count(":") == 1:
            bare = bare.split(":")[0]
        try:
            return str(ipaddress.ip_address(bare))
        except ValueError:
            return bare
