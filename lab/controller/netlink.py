"""The part of netlink for links, addresses and TCP connections, without a library.

Importing a full netlink library takes longer than this controller needs to start, move an address
and announce it, and a restart is part of a failover. Formats: rtnetlink(7), sock_diag(7).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
NLM_F_DUMP = 0x301  # with NLM_F_REQUEST
NLMSG_ERROR, NLMSG_DONE = 2, 3
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20
TCP_ESTABLISHED = 1
IFF_UP, IFF_LOWER_UP = 0x1, 0x10000
NLM_F_DUMP_INTR = 0x10
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
BUFFER = 8 << 20
DUMPS = 50
HEADER = struct.Struct("=IHHII")
DIAG_TAIL = struct.Struct("!HH16s16s")


@dataclass(frozen=True)
class Link:
    """An interface: `live` means administratively up with carrier; `gone`: it was removed."""

    index: int
    name: str
    mac: bytes
    up: bool
    live: bool
    gone: bool = False


@dataclass(frozen=True)
class OnLink:
    """An address on an interface; `gone`: it was removed."""

    index: int
    address: str
    prefix: int
    gone: bool = False


Message = Link | OnLink


def events() -> socket.socket:
    """A non-blocking socket that receives every later change of links and addresses."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    # An overrun costs a full dump: room for some thousand changes. What the system allows at the
    # most counts for the second option only; the first asks for a privilege.
    for option in (SO_RCVBUFFORCE, socket.SO_RCVBUF):
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
            break
        except PermissionError:
            continue
    sock.bind((0, GROUPS))
    sock.setblocking(False)
    return sock


def read(sock: socket.socket) -> Iterator[Message]:
    """The messages waiting at an `events` socket; OSError (ENOBUFS) if the kernel dropped some."""
    while True:
        try:
            data = sock.recv(1 << 16)
        except BlockingIOError:
            return
        yield from _parse(data)


def dump() -> list[Message]:
    """All links, then all addresses, as they are now.

    An answer that changes interrupted may lack what was there all the time: it is asked anew.
    """
    for _ in range(DUMPS):
        found, torn = _dump()
        if not torn:
            return found
    raise OSError(errno.EAGAIN, f"links and addresses changed during each of {DUMPS} dumps")


def _dump() -> tuple[list[Message], bool]:
    """What is there, and whether changes interrupted the answer."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(5.0)
        sock.bind((0, 0))
        found, torn = list[Message](), False
        for kind, body in ((RTM_GETLINK, bytes(16)), (RTM_GETADDR, bytes(8))):
            for data in _dumped(sock, kind, body):
                found += _parse(data)
                torn |= _torn(data)
        return found, torn


def _dumped(sock: socket.socket, kind: int, body: bytes) -> Iterator[bytes]:
    sock.send(HEADER.pack(HEADER.size + len(body), kind, NLM_F_DUMP, 1, 0) + body)
    while True:
        data = sock.recv(1 << 17)
        yield data
        if _ends(data):
            return


def _torn(data: bytes) -> bool:
    at = 0
    while at + HEADER.size <= len(data):
        size, _, flags, _, _ = HEADER.unpack_from(data, at)
        if flags & NLM_F_DUMP_INTR:
            return True
        at += max((size + 3) & ~3, HEADER.size)
    return False


def _ends(data: bytes) -> bool:
    at = 0
    while at + HEADER.size <= len(data):
        size, kind, _, _, _ = HEADER.unpack_from(data, at)
        if kind == NLMSG_ERROR:
            code = -struct.unpack_from("=i", data, at + HEADER.size)[0]
            raise OSError(code, os.strerror(code))
        if kind == NLMSG_DONE:
            return True
        at += max((size + 3) & ~3, HEADER.size)
    return False


def _parse(data: bytes) -> Iterator[Message]:
    at = 0
    while at + HEADER.size <= len(data):
        size, kind, _, _, _ = HEADER.unpack_from(data, at)
        end = at + size
        if kind in (RTM_NEWLINK, RTM_DELLINK):
            _, _, index, flags, _ = struct.unpack_from("=BxHiII", data, at + 16)
            found = _attributes(data, at + 32, end)
            name = found.get(3, b"").rstrip(b"\0").decode(errors="replace")
            up = bool(flags & IFF_UP) and kind == RTM_NEWLINK
            live = up and bool(flags & IFF_LOWER_UP)
            yield Link(index, name, found.get(1, b""), up, live, kind == RTM_DELLINK)
        elif kind in (RTM_NEWADDR, RTM_DELADDR):
            family, prefix, _, _, index = struct.unpack_from("=BBBBI", data, at + 16)
            found = _attributes(data, at + 24, end)
            # IFA_LOCAL if present, because IFA_ADDRESS is the peer's on a point-to-point link.
            packed = found.get(2) or found.get(1)
            if packed and family in (socket.AF_INET, socket.AF_INET6):
                yield OnLink(index, socket.inet_ntop(family, packed), prefix, kind == RTM_DELADDR)
        at += max((size + 3) & ~3, HEADER.size)


def _attributes(data: bytes, at: int, end: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while at + 4 <= end:
        size, kind = struct.unpack_from("=HH", data, at)
        if size < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + size]
        at += (size + 3) & ~3
    return found


class Connections:
    """The established TCP connections to one local port, from the kernel (sock_diag(7))."""

    def __init__(self, port: int = 3260) -> None:
        self.port = port
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
        self._sock.settimeout(1.0)

    def count(self) -> dict[tuple[str, str], int]:
        """The number of connections by (remote address, local address).

        It is empty if the kernel has no sock_diag.
        """
        found: dict[tuple[str, str], int] = {}
        for remote, _, local in self.each():
            found[remote, local] = found.get((remote, local), 0) + 1
        return found

    def each(self) -> list[tuple[str, int, str]]:
        """Remote address, remote port and local address of every connection."""
        found: list[tuple[str, int, str]] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            # The request has the local port, so that the kernel leaves out the others.
            request = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, 1 << TCP_ESTABLISHED)
            request += struct.pack("!HH", self.port, 0) + bytes(44)
            try:
                for data in _dumped(self._sock, SOCK_DIAG_BY_FAMILY, request):
                    self._add(found, data)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EINVAL):
                    raise
        return found

    def _add(self, found: list[tuple[str, int, str]], data: bytes) -> None:
        at = 0
        while at + HEADER.size <= len(data):
            size, kind, _, _, _ = HEADER.unpack_from(data, at)
            if kind == SOCK_DIAG_BY_FAMILY:
                family = data[at + 16]
                port, peer, local, remote = DIAG_TAIL.unpack_from(data, at + 20)
                if port == self.port:
                    found.append((_text(family, remote), peer, _text(family, local)))
            at += max((size + 3) & ~3, HEADER.size)


def _text(family: int, packed: bytes) -> str:
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, packed[:4])
    if packed.startswith(bytes(10) + b"\xff\xff"):  # an IPv4 peer of a socket for both
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed)
