"""Encoding of iSCSI PDUs (RFC 7143), without connections."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

BHS = 48
"""Bytes of the basic header segment (RFC 7143, 11.2.1)."""
MAX_AHS = 255 * 4
"""Most bytes that TotalAHSLength, a count of four-byte words, can announce (11.2.1.5)."""
NO_TAG = 0xFFFFFFFF
"""The reserved value of the task tags (11.2.1.8)."""
DIGEST = 4
"""Bytes of a CRC32C digest (13.1)."""

LOGIN_TRANSIT, LOGIN_CONTINUE = 0x80, 0x40
FULL_FEATURE_STAGE = 3


class PduError(ValueError):
    """Bytes that are not a PDU, or not one within the limits given."""


class DigestError(PduError):
    """A digest that does not match what it covers."""


class Op(IntEnum):
    """Opcodes (RFC 7143, 11.2.1.2)."""

    NOP_OUT = 0x00
    SCSI_COMMAND = 0x01
    TASK_REQUEST = 0x02
    LOGIN_REQUEST = 0x03
    TEXT_REQUEST = 0x04
    DATA_OUT = 0x05
    LOGOUT_REQUEST = 0x06
    SNACK = 0x10
    NOP_IN = 0x20
    SCSI_RESPONSE = 0x21
    TASK_RESPONSE = 0x22
    LOGIN_RESPONSE = 0x23
    TEXT_RESPONSE = 0x24
    DATA_IN = 0x25
    LOGOUT_RESPONSE = 0x26
    R2T = 0x31
    ASYNC = 0x32
    REJECT = 0x3F

    @property
    def label(self) -> str:
        """The name used in commands and events: `scsi-response`."""
        return self.name.lower().replace("_", "-")


FROM_INITIATOR = frozenset(op for op in Op if op < Op.NOP_IN)
FROM_TARGET = frozenset(op for op in Op if op >= Op.NOP_IN)


def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (_POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_POLYNOMIAL = 0x82F63B78
_CRC = _table()


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """The CRC32C of `data` (RFC 7143, 13.1); on the wire it is little-endian."""
    table, crc = _CRC, 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _times(a: int, b: int) -> int:
    """The product of two polynomials modulo CRC32C's; the top bit is the coefficient of x^0."""
    product = 0
    while a:
        if a & 0x80000000:
            product ^= b
        a = (a << 1) & 0xFFFFFFFF
        b = (b >> 1) ^ (_POLYNOMIAL if b & 1 else 0)
    return product


@lru_cache(maxsize=1024)
def _shift(length: int) -> int:
    """x^(8 * length): the factor by which `length` more zero bytes change a CRC."""
    result, power = 0x80000000, 0x00800000
    while length:
        if length & 1:
            result = _times(power, result)
        power = _times(power, power)
        length >>= 1
    return result


def crc_change(delta: bytes, following: int) -> int:
    """The value to XOR into the CRC32C of a text when `delta` is XORed into the text.

    `following` is the number of bytes after the changed ones. A CRC is linear, so a digest can be
    updated without the rest of the text, and a wrong digest stays wrong.
    """
    crc = 0
    for byte in delta:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return _times(_shift(following), crc)


def padded(length: int) -> int:
    """`length` rounded up to whole four-byte words (RFC 7143, 11.1)."""
    return (length + 3) & ~3


@dataclass(frozen=True)
class Pdu:
    """One PDU: `bhs` (48 bytes; its two length fields are set by `encode`), `ahs` and `data`."""

    bhs: bytes
    data: bytes = b""
    ahs: bytes = b""

    @property
    def opcode(self) -> int:
        """The opcode without the immediate bit."""
        return self.bhs[0] & 0x3F

    @property
    def immediate(self) -> bool:
        """The I bit (RFC 7143, 11.2.1.1)."""
        return bool(self.bhs[0] & 0x40)

    @property
    def final(self) -> bool:
        """The F bit; in login PDUs the T bit (RFC 7143, 11.2.1.3)."""
        return bool(self.bhs[1] & 0x80)

    def u32(self, offset: int) -> int:
        """The four-byte number at byte `offset` of the basic header."""
        return int.from_bytes(self.bhs[offset : offset + 4], "big")

    def encode(self, header_digest: bool = False, data_digest: bool = False) -> bytes:
        """The bytes on the wire, padded (11.1), with the digests asked for (11.2.3, 11.2.4).

        A data segment of no bytes has no data digest. PduError if a segment is too long.
        """
        if len(self.bhs) != BHS or len(self.ahs) % 4 or len(self.ahs) > MAX_AHS:
            raise PduError("the basic header is 48 bytes, the AHS are whole words, at most 1020")
        if len(self.data) >= 1 << 24:
            raise PduError("a data segment has less than 2^24 bytes")
        lengths = struct.pack(">I", len(self.ahs) // 4 << 24 | len(self.data))
        out = self.bhs[:4] + lengths + self.bhs[8:] + self.ahs
        if header_digest:
            out += crc32c(out).to_bytes(DIGEST, "little")
        if self.data:
            body = self.data.ljust(padded(len(self.data)), b"\0")
            out += body + (crc32c(body).to_bytes(DIGEST, "little") if data_digest else b"")
        return out


def size_of(
    bhs: bytes | bytearray | memoryview, header_digest: bool = False, data_digest: bool = False
) -> tuple[int, int]:
    """Bytes of the header part (with AHS and digest) and of the data part (padding, digest)."""
    (lengths,) = struct.unpack_from(">I", bhs, 4)
    data = padded(lengths & 0xFFFFFF)
    return (
        BHS + (lengths >> 24) * 4 + (DIGEST if header_digest else 0),
        data + (DIGEST if data and data_digest else 0),
    )


def decode(
    raw: bytes | bytearray | memoryview,
    header_digest: bool = False,
    data_digest: bool = False,
    limit: int = 1 << 24,
) -> tuple[Pdu, int] | None:
    """The first PDU of `raw` and its size in bytes, or None while it is not complete.

    PduError if its data segment is longer than `limit` bytes (found before the data is there);
    DigestError if a digest does not match (RFC 7143, 7.7 and 7.8).
    """
    if len(raw) < BHS:
        return None
    head, rest = size_of(raw, header_digest, data_digest)
    length = int.from_bytes(raw[5:8], "big")
    if length > limit:
        raise PduError(f"a data segment of {length} bytes; at most {limit} here")
    if len(raw) < head + rest:
        return None
    end = head - DIGEST if header_digest else head
    if header_digest and crc32c(raw[:end]) != int.from_bytes(raw[end:head], "little"):
        raise DigestError("header digest")
    if data_digest and length:
        body = raw[head : head + padded(length)]
        if crc32c(body) != int.from_bytes(raw[head + padded(length) : head + rest], "little"):
            raise DigestError("data digest")
    pdu = Pdu(bytes(raw[:BHS]), bytes(raw[head : head + length]), bytes(raw[BHS:end]))
    return pdu, head + rest


def encode_keys(pairs: Mapping[str, str] | Iterable[tuple[str, str]]) -> bytes:
    """Text keys as a data segment: `key=value` and a zero byte each (RFC 7143, 6.1)."""
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return b"".join(f"{key}={value}".encode() + b"\0" for key, value in items)


def decode_keys(raw: bytes) -> list[tuple[str, str]]:
    """The text keys of a data segment in order; parts that are not `key=value` are ignored."""
    found = []
    for part in raw.split(b"\0"):
        key, equals, value = part.decode(errors="replace").partition("=")
        if equals and key:
            found.append((key, value))
    return found
