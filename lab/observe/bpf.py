"""Capture filters that keep the control traffic of iSCSI and drop its data.

A filter sees one segment at a time and knows a PDU by the segment's first four bytes. That finds
every PDU that starts a segment: every login, which is alone on its connection, and nearly all
others. It misses a PDU that follows another in one segment. Where that matters, Capture with
`full=True` keeps everything.
"""

from __future__ import annotations

import contextlib
import ctypes
import struct
from collections.abc import Iterator, Sequence

from lab.errors import Missing

PDUS: tuple[tuple[int, int], ...] = (
    (0xBFFFFFFF, 0x00800000),  # NOP-Out: final bit, the rest reserved (RFC 7143 section 11.18)
    (0xFFFFFFFF, 0x20800000),  # NOP-In (11.19)
    (0xBF30FFFF, 0x03000000),  # Login Request, version 0 (11.12)
    (0xFF30FFFF, 0x23000000),  # Login Response (11.13)
    (0xBF3FFFFF, 0x04000000),  # Text Request (11.10)
    (0xFF3FFFFF, 0x24000000),  # Text Response (11.11)
    (0xBFFCFFFF, 0x06800000),  # Logout Request, reason 0 to 2 (11.14)
    (0xFFFFFCFF, 0x26800000),  # Logout Response, response 0 to 3 (11.15)
    (0xFFFFFFFF, 0x32800000),  # Asynchronous Message (11.9)
    (0xFFFF00FF, 0x3F800000),  # Reject, any reason (11.17)
)
"""Mask and value of the first four bytes, without the immediate bit (0x40) of requests."""

TEXTS = ("Init", "Sess", "Auth", "Targ", "Send", "CHAP", "Head")
"""How the text of a login or discovery begins, for senders that put it in a separate segment."""


def _first_word(at: str) -> str:
    masked = [f"{at} & {mask:#x} = {value:#x}" for mask, value in PDUS]
    texts = [f"{at} = {int.from_bytes(text.encode(), 'big'):#x}" for text in TEXTS]
    return " or ".join([*masked, *texts])


def control_filter(ports: Sequence[int] = (3260,)) -> str:
    """A pcap-filter(7) expression: ARP, neighbour discovery, TCP SYN/FIN/RST, control PDUs.

    `ports` are the TCP ports of iSCSI. IPv6 is matched by offset, because `tcp[]` is IPv4 only;
    packets with extension headers do not match.
    """
    at_port = "(" + " or ".join(f"tcp port {p}" for p in ports) + ")"
    four = _first_word("tcp[((tcp[12] & 0xf0) >> 2):4]")
    six = _first_word("ip6[40 + ((ip6[52] & 0xf0) >> 2):4]")
    return (
        "arp or (icmp6 and ip6[40] >= 133 and ip6[40] <= 136)"
        f" or (ip and {at_port} and (tcp[13] & 7 != 0 or {four}))"
        f" or (ip6 and {at_port} and (ip6[53] & 7 != 0 or {six}))"
    )


class _Program(ctypes.Structure):
    """`struct bpf_program` of libpcap."""

    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.c_void_p))


@contextlib.contextmanager
def compiled(expression: str) -> Iterator[bytes]:
    """`expression` as a `struct sock_fprog` for SO_ATTACH_FILTER, valid while entered.

    libpcap compiles it for Ethernet. Raises Missing if libpcap is not installed, and ValueError if
    the expression is wrong.
    """
    try:
        pcap = ctypes.CDLL("libpcap.so.0.8")
    except OSError:
        raise Missing("libpcap is not installed; run: sudo apt-get install tshark") from None
    pcap.pcap_open_dead.restype = ctypes.c_void_p
    pcap.pcap_geterr.restype = ctypes.c_char_p
    handle = ctypes.c_void_p(pcap.pcap_open_dead(1, 65535))
    program = _Program()
    try:
        text = expression.encode()
        if pcap.pcap_compile(handle, ctypes.byref(program), text, 1, ctypes.c_uint32(0xFFFFFFFF)):
            raise ValueError(f"{pcap.pcap_geterr(handle).decode()}: {expression}")
        try:
            yield struct.pack("@HP", program.length, program.instructions)
        finally:
            pcap.pcap_freecode(ctypes.byref(program))
    finally:
        pcap.pcap_close(handle)
