"""CHAP, the side that asks for the secret: RFC 7143 section 12.1.3, RFC 1994. Bytes only.

Standard library only. MD5, for that is what every initiator must be able to do.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Mapping

MD5 = "5"
CHALLENGE_BYTES = 16
LONGEST_BINARY = 1024
"""Bytes of a binary value, the most that CHAP has (RFC 7143 section 12.1.3)."""


class Unproven(Exception):
    """The host did not prove that it knows the secret; says why, never what it sent."""


def response(identifier: int, secret: str, challenge: bytes) -> bytes:
    """What proves that its sender knows `secret` (RFC 1994 section 4.1)."""
    text = bytes([identifier]) + secret.encode() + challenge
    return hashlib.md5(text).digest()  # noqa: S324  it is what CHAP is made of


def decode_binary(value: str) -> bytes:
    """A binary value of a text key, `0x…` or `0b…` (RFC 7143 section 6.1); Unproven if none."""
    try:
        kind, digits = value[:2].lower(), value[2:]
        if not digits or len(digits) > 2 * LONGEST_BINARY:
            raise ValueError
        if kind == "0x":
            return bytes.fromhex(digits.zfill(len(digits) + len(digits) % 2))
        if kind == "0b":
            return base64.b64decode(digits, validate=True)
        raise ValueError
    except (ValueError, binascii.Error):
        raise Unproven("a value that is not binary") from None


class Authenticator:
    """One host's way through the security stage of a login: `answer` each of its requests.

    The host proves itself with the CHAP name `user` and `secret`; `proven` says that it has. A host
    that wants a proof in return is refused, for there is no secret to give it with.
    """

    def __init__(self, user: str, secret: str) -> None:
        self._user, self._secret = user, secret
        self._identifier, self._challenge = os.urandom(1)[0], os.urandom(CHALLENGE_BYTES)
        self._step = self._offered
        self.proven = False

    def answer(self, keys: Mapping[str, str]) -> dict[str, str]:
        """The keys of the response to a request with `keys`; Unproven ends the login (0x0201)."""
        return self._step(keys)

    def _offered(self, keys: Mapping[str, str]) -> dict[str, str]:
        if "CHAP" not in keys.get("AuthMethod", "None").split(","):
            raise Unproven("CHAP is not among its methods")
        self._step = self._algorithm
        return {"AuthMethod": "CHAP"}

    def _algorithm(self, keys: Mapping[str, str]) -> dict[str, str]:
        if MD5 not in keys.get("CHAP_A", "").split(","):
            raise Unproven("MD5 is not among its algorithms")
        self._step = self._proof
        challenge = f"0x{self._challenge.hex()}"
        return {"CHAP_A": MD5, "CHAP_I": str(self._identifier), "CHAP_C": challenge}

    def _proof(self, keys: Mapping[str, str]) -> dict[str, str]:
        expected = response(self._identifier, self._secret, self._challenge)
        shown = decode_binary(keys.get("CHAP_R", ""))
        right = hmac.compare_digest(shown, expected)
        named = hmac.compare_digest(keys.get("CHAP_N", "").encode(), self._user.encode())
        if not (right and named):
            raise Unproven("wrong name or secret")
        if "CHAP_C" in keys or "CHAP_I" in keys:
            raise Unproven("it wants a proof of the array, which has no secret for that")
        self.proven = True
        return {}
