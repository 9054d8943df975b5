"""The PDUs that a relay, or a scripted peer of a test, makes by itself (RFC 7143, section 11)."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from targets.pdu import NO_TAG, Op, Pdu, encode_keys


def async_message(
    event: int,
    *,
    stat_sn: int,
    exp_cmd_sn: int,
    max_cmd_sn: int,
    parameters: tuple[int, int, int] = (0, 0, 0),
) -> Pdu:
    """An Asynchronous Message without data (RFC 7143, 11.9): AsyncEvent and Parameter1 to 3."""
    bhs = struct.pack(
        ">BB14xI4xIIIBxHHH4x",
        Op.ASYNC,
        0x80,
        NO_TAG,
        stat_sn,
        exp_cmd_sn,
        max_cmd_sn,
        event,
        *parameters,
    )
    return Pdu(bhs)


def login_response(
    request: Pdu, status: int, keys: Iterable[tuple[str, str]] = (), stat_sn: int = 0
) -> Pdu:
    """The answer to a Login Request with `status` (Status-Class << 8 | Status-Detail).

    ISID, TSIH and task tag are those of the request (RFC 7143, 11.13). The stages and the T bit
    are those that the request proposed, for class 0 only: with another class they mean nothing.
    """
    flags = request.bhs[1] & 0x8F if status >> 8 == 0 else 0
    cmd_sn = request.u32(24)
    bhs = struct.pack(
        ">BBBB4x8sI4xIIIH10x",
        Op.LOGIN_RESPONSE,
        flags,
        0,
        0,
        request.bhs[8:16],
        request.u32(16),
        stat_sn,
        cmd_sn,
        cmd_sn,
        status,
    )
    return Pdu(bhs, encode_keys(keys))


def reject(reason: int, bad: Pdu, *, stat_sn: int, exp_cmd_sn: int, max_cmd_sn: int) -> Pdu:
    """A Reject with `reason` (0x02 data digest, 0x04 protocol error …) of the PDU `bad` (11.17)."""
    bhs = struct.pack(
        ">BBBB12xI4xIII12x",
        Op.REJECT,
        0x80,
        reason & 0xFF,
        0,
        NO_TAG,
        stat_sn,
        exp_cmd_sn,
        max_cmd_sn,
    )
    return Pdu(bhs, bad.bhs)


def logout_request(
    reason: int, *, tag: int, cid: int, cmd_sn: int, exp_stat_sn: int, immediate: bool = True
) -> Pdu:
    """A Logout Request: `reason` 0 closes the session, 1 the connection, 2 recovers it (11.14)."""
    first = Op.LOGOUT_REQUEST | (0x40 if immediate else 0)
    bhs = struct.pack(">BB14xIH2xII16x", first, 0x80 | reason & 0x7F, tag, cid, cmd_sn, exp_stat_sn)
    return Pdu(bhs)


def logout_response(
    request: Pdu, response: int, *, stat_sn: int, exp_cmd_sn: int, max_cmd_sn: int
) -> Pdu:
    """The answer to a Logout Request; `response` 0 is success (RFC 7143, 11.15)."""
    bhs = struct.pack(
        ">BBB13xI4xIII12x",
        Op.LOGOUT_RESPONSE,
        0x80,
        response & 0xFF,
        request.u32(16),
        stat_sn,
        exp_cmd_sn,
        max_cmd_sn,
    )
    return Pdu(bhs)
