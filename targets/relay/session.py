"""One relayed connection without its sockets: the login, the numbers, the orders."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Protocol

from targets.pdu import (
    FULL_FEATURE_STAGE,
    LOGIN_CONTINUE,
    LOGIN_TRANSIT,
    NO_TAG,
    Op,
    Pdu,
    PduError,
    decode_keys,
)
from targets.relay.messages import async_message, login_response
from targets.relay.numbers import Numbering
from targets.relay.rules import AsyncOrder, Direction, Facts, Rule
from targets.relay.stream import Stream

LOGIN_TEXT = 65536
"""Most bytes of login text kept for one direction of a connection until it is complete."""

_NUMBERS = struct.Struct(">III")
_U32 = struct.Struct(">I")
# A response of the target takes the next StatSN. Exceptions: R2T and unsolicited NOP-In only show
# it (RFC 7143, 11.8.5 and 11.19.3), and Data-In has it only with the S bit.
_TAKES_STAT_SN = frozenset(
    {
        Op.SCSI_RESPONSE,
        Op.TASK_RESPONSE,
        Op.LOGIN_RESPONSE,
        Op.TEXT_RESPONSE,
        Op.LOGOUT_RESPONSE,
        Op.ASYNC,
        Op.REJECT,
    }
)
_SHOWS_STAT_SN = frozenset({*_TAKES_STAT_SN, Op.NOP_IN, Op.R2T})
_SHOWS_EXP_STAT_SN = frozenset(
    {
        Op.NOP_OUT,
        Op.SCSI_COMMAND,
        Op.TASK_REQUEST,
        Op.LOGIN_REQUEST,
        Op.TEXT_REQUEST,
        Op.DATA_OUT,
        Op.LOGOUT_REQUEST,
        Op.SNACK,
    }
)


class Owner(Protocol):
    """The object with the sockets and timers of a session."""

    def event(self, what: str, **details: Any) -> None:
        """Put something on record."""

    def sent(self, order: AsyncOrder, cid: int) -> None:
        """An Async Message has gone out, with this connection's CID."""

    def logging_out(self) -> None:
        """The initiator sends a Logout Request."""

    def rule_spent(self, rule: Rule) -> None:
        """A rule has acted for the last time."""


class Session:
    """The state of one connection that both directions share.

    `rules` gives the standing orders in force; `local` is the address and port that the initiator
    connected to, in the form of TargetAddress (RFC 7143, 13.8).
    """

    def __init__(
        self,
        owner: Owner,
        facts: Facts,
        local: str,
        rules: Callable[[], Iterable[Rule]],
        login_limit: int = LOGIN_TEXT,
    ) -> None:
        self.owner, self.facts, self.local = owner, facts, local
        self.login_limit = login_limit
        self.numbering = Numbering()
        self.full_feature = False
        self.routed = False
        self.answer = b""
        self.isid, self.cid = "", 0
        self.digests = {"HeaderDigest": False, "DataDigest": False}
        self._offers: dict[str, Direction] = {}
        self._text = {way: bytearray() for way in Direction}
        self._next_stat_sn = self._exp_cmd_sn = self._max_cmd_sn = 0
        self._rules = rules
        self.to_target = Stream(self, Direction.TO_TARGET)
        self.to_initiator = Stream(self, Direction.TO_INITIATOR)
        self.select()

    @property
    def key(self) -> tuple[str, str, str]:
        """The key of a session, equal for its connections: initiator, ISID, target."""
        return self.facts.initiator, self.isid, self.facts.target

    def select(self) -> None:
        """Select the rules for this connection again, after rules or names have changed."""
        mine = [
            rule for rule in self._rules() if rule.left != 0 and rule.select.matches(self.facts)
        ]
        for stream in (self.to_target, self.to_initiator):
            stream.rules = [
                rule
                for rule in mine
                if rule.direction is stream.direction and rule.action != "answer-login"
            ]

    # The login phase: PDUs are complete here.

    def login_pdu(self, way: Direction, pdu: Pdu) -> None:
        """Follow the negotiation in one login PDU; PduError if it is not allowed here."""
        if way is Direction.TO_TARGET:
            if pdu.opcode != Op.LOGIN_REQUEST:
                raise PduError(f"opcode {pdu.opcode:#04x} from the initiator before its login")
        elif pdu.opcode != Op.LOGIN_RESPONSE:
            return  # such as a Reject: the initiator handles it
        text = self._text[way]
        if len(text) + len(pdu.data) > self.login_limit:
            raise PduError(f"more than {self.login_limit} bytes of login text")
        text += pdu.data
        if not pdu.bhs[1] & LOGIN_CONTINUE:
            for key, value in decode_keys(bytes(text)):
                self._negotiate(way, key, value)
            text.clear()
        if way is Direction.TO_INITIATOR and pdu.bhs[36] == 0:
            stages = pdu.bhs[1]
            if stages & LOGIN_TRANSIT and stages & 3 == FULL_FEATURE_STAGE:
                self._enter_full_feature()

    def _negotiate(self, way: Direction, key: str, value: str) -> None:
        """Digests are lists: one side offers, the other's answer is the result (6.2.1, 13.1)."""
        if key in self.digests:
            if self._offers.get(key, way) is way:
                self._offers[key] = way
            else:
                self.digests[key] = value == "CRC32C"
                del self._offers[key]

    def _enter_full_feature(self) -> None:
        self.full_feature = True
        for stream in (self.to_target, self.to_initiator):
            stream.header_digest = self.digests["HeaderDigest"]
            stream.data_digest = self.digests["DataDigest"]
            stream.whole = False
        names = ("none", "CRC32C")
        self.owner.event(
            "full-feature",
            header_digest=names[self.digests["HeaderDigest"]],
            data_digest=names[self.digests["DataDigest"]],
        )

    def route(self, request: Pdu) -> bytes | None:
        """Handle the first Login Request: the relay's own answer, or None for the backend's.

        InitiatorName and TargetName must be in this PDU (RFC 7143, 6.3): a continued text is
        not waited for.
        """
        if request.opcode != Op.LOGIN_REQUEST:
            raise PduError(f"opcode {request.opcode:#04x} from the initiator before its login")
        keys = dict(decode_keys(request.data))
        self.routed = True
        self.isid = request.bhs[8:14].hex()
        self.cid = int.from_bytes(request.bhs[20:22], "big")
        self.facts = replace(
            self.facts,
            initiator=keys.get("InitiatorName", ""),
            target=keys.get("TargetName", ""),
            session=keys.get("SessionType", "Normal").lower(),
        )
        self.select()
        self.owner.event("login", isid=self.isid, cid=self.cid)
        for rule in self._rules():
            if rule.action == "answer-login" and rule.select.matches(self.facts) and rule.use():
                self._spend(rule)
                return self._answer(request, rule)
        return None

    def _answer(self, request: Pdu, rule: Rule) -> bytes:
        status, address = rule.details["status"], rule.details["target_address"]
        keys = dict(rule.details["keys"])
        if address is not None:
            address = address.replace("{local}", self.local)
            keys["TargetAddress"] = address
        self.owner.event(
            "login-answered", rule=rule.number, status=f"{status:#06x}", target_address=address
        )
        return login_response(request, status, keys.items()).encode()

    # The full feature phase: headers only.

    def from_target(self, view: memoryview, at: int, op: int, flags: int) -> None:
        """Follow the header at `at`, and renumber it if messages have been put in."""
        if op == Op.DATA_IN:
            takes = shows = bool(flags & 1)
        elif op == Op.NOP_IN:
            shows = True
            takes = _U32.unpack_from(view, at + 16)[0] != NO_TAG
        else:
            takes, shows = op in _TAKES_STAT_SN, op in _SHOWS_STAT_SN
        if takes:
            stat_sn, self._exp_cmd_sn, self._max_cmd_sn = _NUMBERS.unpack_from(view, at + 24)
            self._next_stat_sn = (stat_sn + 1) & 0xFFFFFFFF
        if shows and self.numbering.active:
            (stat_sn,) = _U32.unpack_from(view, at + 24)
            self.to_initiator.patch(view, at, 24, self.numbering.to_initiator(stat_sn))

    def from_initiator(self, view: memoryview, at: int, op: int) -> None:
        """Follow the header at `at`, and renumber it if messages have been put in."""
        if op == Op.LOGOUT_REQUEST:
            self.owner.event("logout", reason=view[at + 1] & 0x7F)
            self.owner.logging_out()
        if self.numbering.active and op in _SHOWS_EXP_STAT_SN:
            (exp_stat_sn,) = _U32.unpack_from(view, at + 28)
            stream = self.to_target
            stream.patch(view, at, 28, self.numbering.acknowledge(exp_stat_sn))
            if op == Op.SNACK and view[at + 1] & 0x0F == 1:  # Status SNACK (11.16.1)
                begin, length = struct.unpack_from(">II", view, at + 40)
                begin, length = self.numbering.run_to_target(begin, length)
                stream.patch(view, at, 40, begin)
                stream.patch(view, at, 44, length)

    def put_in(self, order: AsyncOrder) -> bytes:
        """The bytes of an Async Message, to be sent now, between two PDUs."""
        first, second, third = order.parameters
        stat_sn = self.numbering.inject(self._next_stat_sn)
        parameters = (self.cid if first is None else first, second, third)
        message = async_message(
            order.event,
            stat_sn=stat_sn,
            exp_cmd_sn=self._exp_cmd_sn,
            max_cmd_sn=self._max_cmd_sn,
            parameters=parameters,
        )
        self.owner.event(
            "async-sent", event=order.event, parameters=list(parameters), stat_sn=stat_sn
        )
        self.owner.sent(order, self.cid)
        return message.encode(self.to_initiator.header_digest)

    def _spend(self, rule: Rule) -> None:
        if rule.left == 0:
            self.owner.rule_spent(rule)

    def act(self, rule: Rule, op: int, **details: Any) -> None:
        """Put on record that a rule has acted on a PDU."""
        name = Op(op).label if op in Op.__members__.values() else f"{op:#04x}"
        self.owner.event(f"rule-{rule.action}", rule=rule.number, opcode=name, **details)
        self._spend(rule)
