"""PDUs that a relay itself makes (RFC 7143, section 11)."""

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

    ISID, TSIH and task tag are those of the request (RFC 7143, 11.13). So are the stages and the T
    bit for class 0; they have no meaning for other classes.
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
