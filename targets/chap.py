"""CHAP, the side that asks for the secret: RFC 7143 section 12.1.3, RFC 1994. Bytes only.

Standard library only. Uses MD5, which every initiator must support.
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
"""Most bytes of a binary value in CHAP (RFC 7143 section 12.1.3)."""


class Unproven(Exception):
    """The host did not prove that it knows the secret. The message never holds what it sent."""


def response(identifier: int, secret: str, challenge: bytes) -> bytes:
    """The CHAP response for `challenge` (RFC 1994 section 4.1)."""
    text = bytes([identifier]) + secret.encode() + challenge
    return hashlib.md5(text).digest()  # noqa: S324  CHAP requires it


def decode_binary(value: str) -> bytes:
    """Decode a binary value `0x…` or `0b…` (RFC 7143 section 6.1); Unproven if it is invalid."""
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
        raise Unproven("a value is not binary (0x… or 0b…)") from None


class Authenticator:
    """The security stage of one login: call `answer` for each request of the host.

    `proven` is True once the host has used the CHAP name `user` and `secret`. A host that asks for
    mutual CHAP is refused: there is no secret for it.
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
            raise Unproven("it asks for mutual CHAP, and the array has no secret for that")
        self.proven = True
        return {}
