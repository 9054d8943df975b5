"""One direction of a relayed connection: finds its PDUs and applies rules to them."""

from __future__ import annotations

import struct
from collections import deque
from enum import Enum
from typing import Any, Protocol

from targets.pdu import BHS, DIGEST, Op, Pdu, PduError, crc_change, decode, padded
from targets.relay.numbers import Numbering
from targets.relay.rules import AsyncOrder, Direction, Rule

_HEAD = struct.Struct(">BBxxI")
_PLAIN_FROM_INITIATOR = frozenset({Op.DATA_OUT, Op.SCSI_COMMAND})


class Then(Enum):
    """What the pump does after it has sent the pieces of a walk."""

    GO = 0
    CONNECT = 1
    ANSWER = 2
    CLOSE = 3
    RESET = 4


class Shared(Protocol):
    """The part of Session (targets/relay/session.py) that one direction needs."""

    login_limit: int
    numbering: Numbering
    routed: bool
    answer: bytes

    def login_pdu(self, way: Direction, pdu: Pdu) -> None:
        """Follow the negotiation in one login PDU; PduError if it is not allowed here."""

    def route(self, request: Pdu) -> bytes | None:
        """The answer to the first login PDU; None: the target answers."""

    def from_target(self, view: memoryview, at: int, op: int, flags: int) -> None:
        """Read, and renumber, the header at `at` from the target."""

    def from_initiator(self, view: memoryview, at: int, op: int) -> None:
        """Read, and renumber, the header at `at` from the initiator."""

    def put_in(self, order: AsyncOrder) -> bytes:
        """The bytes of the message that `order` inserts."""

    def act(self, rule: Rule, op: int, **details: Any) -> None:
        """Record that `rule` was applied to a PDU with opcode `op`."""


class Stream:
    """Walks over the bytes of one side, in the pump's buffer, and decides what to send on.

    It reads headers only, and skips data segments of any length. It passes a header on when it is
    complete (with AHS and digest), a login PDU when all of it is there, other bytes as they come.
    After a `walk`, `out` holds the pieces to send, `pause` the seconds to wait before the next
    walk, `then` what else to do.
    """

    def __init__(self, session: Shared, direction: Direction) -> None:
        self.session, self.direction = session, direction
        self.header_digest = self.data_digest = False
        self.whole = True
        self.rules: list[Rule] = []
        self.orders: deque[AsyncOrder] = deque()
        self.out: list[memoryview | bytes] = []
        self.then, self.pause = Then.GO, 0.0
        self.passed = 0
        self._skip = 0
        self._swallowing = False
        self._cut: Then | None = None
        self._waited = False
        self._xors: list[tuple[int, bytes]] = []

    @property
    def between(self) -> bool:
        """Whether the bytes passed on so far end with a whole PDU."""
        return not self._skip

    def walk(self, view: memoryview, end: int) -> int:
        """Walk `view[:end]`, which begins where the last walk stopped. Returns the bytes done.

        The next walk must begin with the rest. PduError if the bytes are invalid.
        """
        self.out, self.then, self.pause = [], Then.GO, 0.0
        position = start = 0
        inward = self.direction is Direction.TO_INITIATOR
        while True:
            if self._skip:
                step = min(self._skip, end - position)
                position += step
                self._skip -= step
                if self._swallowing:
                    start, self._swallowing = position, self._skip > 0
                if self._skip:
                    break
                if self._cut:
                    self.then = self._cut
                    break
            if self.orders:
                self._piece(view, start, position)
                start = position
                while self.orders:
                    self.out.append(self.session.put_in(self.orders.popleft()))
            if end - position < BHS:
                break
            first, flags, lengths = _HEAD.unpack_from(view, position)
            op, length = first & 0x3F, lengths & 0xFFFFFF
            head = BHS + (lengths >> 24) * 4 + (DIGEST if self.header_digest else 0)
            rest = (length + 3) & ~3
            if rest and self.data_digest:
                rest += DIGEST
            if self.whole and length > self.session.login_limit:
                raise PduError(f"a login PDU with a data segment of {length} bytes")
            if end - position < (head + rest if self.whole else head):
                break
            if self.whole and not inward and not self.session.routed:
                self._route(view[position : position + head + rest])
                break
            rule = self._match(op, head, length) if self.rules else None
            if rule and rule.action == "delay":
                self.pause, self._waited = rule.details["seconds"], True
                self.session.act(rule, op, seconds=self.pause)
                break
            self._waited = False
            if inward:
                self.session.from_target(view, position, op, flags)
            elif op not in _PLAIN_FROM_INITIATOR or self.session.numbering.active:
                self.session.from_initiator(view, position, op)
            if self.whole:
                self._login(view[position : position + head + rest])
            if rule:
                if rule.action == "swallow":
                    self._piece(view, start, position)
                self._apply(rule, op, position, head, rest, length)
                if self._cut or self._swallowing:
                    continue
            position += head
            self._skip = rest
        self._piece(view, start, position)
        if self._xors:
            self._corrupt(view, position)
        self.passed += position
        return position

    def _piece(self, view: memoryview, start: int, end: int) -> None:
        if end > start:
            self.out.append(view[start:end])

    def _route(self, raw: memoryview) -> None:
        found = decode(raw)
        assert found  # the caller has seen that it is complete
        answer = self.session.route(found[0])
        self.then = Then.CONNECT
        if answer is not None:
            self.then = Then.ANSWER
            self.session.answer = answer

    def _login(self, raw: memoryview) -> None:
        found = decode(raw)
        assert found
        self.session.login_pdu(self.direction, found[0])

    def patch(self, view: memoryview, at: int, offset: int, value: int) -> None:
        """Write `value` at byte `offset` of the header at `at`, and update its digest."""
        place = at + offset
        new = value.to_bytes(4, "big")
        if self.header_digest:
            head = BHS + view[at + 4] * 4
            old = int.from_bytes(view[place : place + 4], "big")
            change = crc_change((old ^ value).to_bytes(4, "big"), head - offset - 4)
            digest = int.from_bytes(view[at + head : at + head + DIGEST], "little") ^ change
            view[at + head : at + head + DIGEST] = digest.to_bytes(DIGEST, "little")
        view[place : place + 4] = new

    def _match(self, op: int, head: int, length: int) -> Rule | None:
        """The first rule that acts on this PDU; None after a delay of it."""
        if self._waited:
            return None
        for rule in self.rules:
            fits = rule.opcodes is None or op in rule.opcodes
            if fits and self._can(rule, head, length) and rule.use():
                return rule
        return None

    def _can(self, rule: Rule, head: int, length: int) -> bool:
        """Whether the PDU has the part that the rule corrupts."""
        if rule.action != "corrupt":
            return True
        what, offset = rule.details["what"], rule.details["offset"]
        return bool(
            (what == "header" and offset < head)
            or (what == "header-digest" and self.header_digest)
            or (what == "data" and offset < length)
            or (what == "data-digest" and self.data_digest and length)
        )

    def _apply(self, rule: Rule, op: int, at: int, head: int, rest: int, length: int) -> None:
        """Apply a rule other than `delay` to the PDU at `at`."""
        if rule.action == "swallow":
            self._skip, self._swallowing = head + rest, True
            self.session.act(rule, op, bytes=head + rest)
        elif rule.action == "close":
            wanted = rule.details["after"] or (head + rest // 2 if rest else head // 2)
            self._skip = min(wanted, head + rest - 1)
            self._cut = Then.RESET if rule.details["how"] == "reset" else Then.CLOSE
            self.session.act(rule, op, after=self._skip, of=head + rest)
        else:
            what, offset = rule.details["what"], rule.details["offset"]
            begin, body = self.passed + at, padded(length)
            digest = begin + head + body
            if what == "header":
                self._xors.append((begin + offset, b"\xff"))
            elif what == "header-digest":
                self._xors.append((begin + head - DIGEST, b"\xff"))
            elif what == "data-digest":
                self._xors.append((digest, b"\xff"))
            else:
                self._xors.append((begin + head + offset, b"\xff"))
                if rule.details["fix_digest"] and self.data_digest:
                    change = crc_change(b"\xff", body - offset - 1).to_bytes(DIGEST, "little")
                    self._xors.extend((digest + i, change[i : i + 1]) for i in range(DIGEST))
            self.session.act(rule, op, corrupted=what)

    def _corrupt(self, view: memoryview, end: int) -> None:
        """Flip the bits in the bytes of this walk; keep those of later bytes."""
        later = []
        for place, bits in self._xors:
            if place - self.passed < end:
                view[place - self.passed] ^= bits[0]
            else:
                later.append((place, bits))
        self._xors = later
