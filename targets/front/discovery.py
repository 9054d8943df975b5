"""The login of a discovery session, without its sockets (RFC 7143, sections 6.3 and 13).

Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping

from targets.chap import Authenticator, Unproven
from targets.pdu import FULL_FEATURE_STAGE, LOGIN_TRANSIT, Pdu, decode_keys, encode_keys

# Section 11.12.3: the current stage (CSG); STAGES adds the T bit and the next stage (NSG).
CURRENT_STAGE, STAGES = 0x0C, 0x8F

# Keys: with a fixed answer, with the host's value as the answer, or without an answer.
SETTLED = {"AuthMethod": "None", "HeaderDigest": "None", "DataDigest": "None"}
SETTLED |= {"ErrorRecoveryLevel": "0", "MaxConnections": "1", "IFMarker": "No", "OFMarker": "No"}
AGREED = {"DefaultTime2Wait", "DefaultTime2Retain", "InitialR2T", "ImmediateData"}
AGREED |= {"MaxBurstLength", "FirstBurstLength", "MaxOutstandingR2T"}
AGREED |= {"DataPDUInOrder", "DataSequenceInOrder"}
DECLARED = {"InitiatorName", "InitiatorAlias", "SessionType", "TargetName"}
DECLARED |= {"MaxRecvDataSegmentLength"}


class DiscoveryLogin:
    """One login: call `answer` for each request, until `done` (full feature phase).

    With an `account` (`user`, `secret`) the host must pass CHAP first.
    """

    def __init__(self, account: Mapping[str, str] | None) -> None:
        self._proof = Authenticator(**account) if account else None
        self.done = False

    def answer(self, request: Pdu) -> tuple[int, bytes]:
        """Flags and text of the response; Unproven ends the login (0x0201)."""
        keys, asked = dict(decode_keys(request.data)), request.bhs[1]
        if self._proof and not self._proof.proven:
            if asked & CURRENT_STAGE:
                raise Unproven("it leaves out the security stage")
            reply = self._proof.answer(keys)
        else:
            reply = self._settle(keys)
        # The next stage only if both sides are ready for it.
        ready = asked & LOGIN_TRANSIT and (not self._proof or self._proof.proven)
        flags = asked & (STAGES if ready else CURRENT_STAGE)
        self.done = bool(flags & LOGIN_TRANSIT) and flags & 0x03 == FULL_FEATURE_STAGE
        return flags, encode_keys(reply)

    def _settle(self, keys: Mapping[str, str]) -> dict[str, str]:
        if not self._proof and "None" not in keys.get("AuthMethod", "None").split(","):
            raise Unproven("None is not among its methods")
        known = SETTLED.keys() | AGREED
        reply = {key: SETTLED.get(key, value) for key, value in keys.items() if key in known}
        return reply | dict.fromkeys(sorted(keys.keys() - known - DECLARED), "NotUnderstood")
