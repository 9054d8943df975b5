"""Control frames that only the array can make: sealed with a key of the run, and numbered.

A frame is version, kind, sender, boot and number of the sender, a body, and a tag: the first 16
bytes of HMAC-SHA256 over all that (RFC 2104, 5, asks for half of the hash or more). Whoever sees
frames can neither make nor change one. A receiver takes no number again, so that frames that were
captured are of no use either. What it does not take it drops, and counts.
"""

from __future__ import annotations

import hmac
import os
import struct
from collections import Counter
from dataclasses import dataclass

VERSION = 1
BEAT, ORDER, HEAD_PROBE, PORT_PROBE = 1, 2, 3, 4
CONTROLLER = 0xFFFF
"""The sender of orders; the others are numbered as the configuration lists them."""
HEADER = struct.Struct("!BBHHQQ")
TAG_BYTES, KEY_BYTES = 16, 32
READS = 256
"""So many frames are read at a time: a flood must not keep a receiver from its work."""
REPORT_S = 1.0


class Refused(Exception):
    """A frame that is not taken; the text is the reason, one of a few."""


@dataclass(frozen=True)
class Frame:
    """A frame whose seal is right."""

    sender: int
    boot: int
    number: int
    body: bytes


def new_boot() -> int:
    """A number that no other start of a sender has."""
    return int.from_bytes(os.urandom(8), "big")


def seal(key: bytes, kind: int, frame: Frame) -> bytes:
    """The bytes of `frame`."""
    head = HEADER.pack(
        VERSION, kind, frame.sender, len(frame.body), frame.boot, frame.number
    )  # fmt: skip
    text = head + frame.body
    return text + _tag(key, text)


def opened(key: bytes, kind: int, data: bytes) -> Frame:
    """The frame in `data`, which may have padding; Refused if it is not of this kind and key."""
    if len(data) < HEADER.size + TAG_BYTES:
        raise Refused("too short")
    version, its, sender, length, boot, number = HEADER.unpack_from(data)
    end = HEADER.size + length
    if version != VERSION or its != kind:
        raise Refused("of another kind")
    if len(data) < end + TAG_BYTES:
        raise Refused("too short")
    if not hmac.compare_digest(_tag(key, data[:end]), data[end : end + TAG_BYTES]):
        raise Refused("of another key")
    return Frame(sender, boot, number, data[HEADER.size : end])


def _tag(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")[:TAG_BYTES]


def read_key(fd: int = 0) -> bytes:
    """The key: one line of hex digits at `fd`, not one byte more; ValueError if it is none."""
    line = b""
    while (byte := os.read(fd, 1)) not in (b"", b"\n") and len(line) < 1024:
        line += byte
    try:
        key = bytes.fromhex(line.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"standard input must begin with a line of {2 * KEY_BYTES} hex digits")
    return key


class Rejected:
    """Counts what was not taken; report() gives the counts by reason, at most once a second."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._next = float("-inf")

    def note(self, reason: str) -> None:
        """Count one."""
        self._counts[reason] += 1

    def report(self, now: float) -> dict[str, int]:
        """The counts since the last report, empty if there is nothing to tell at `now`."""
        if not self._counts or now < self._next:
            return {}
        counts, self._next = dict(self._counts), now + REPORT_S
        self._counts.clear()
        return counts
