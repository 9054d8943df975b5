"""Turns packets into events: logins with their answers, and claims to addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lab.observe.packet import Packet
from lab.portal import ip_of
from lab.timeline import Event

# Opcodes, RFC 7143 section 11.2.1.2.
LOGIN, TEXT, LOGOUT = 0x03, 0x04, 0x06
LOGIN_ANSWER, TEXT_ANSWER, LOGOUT_ANSWER, ASYNC = 0x23, 0x24, 0x26, 0x32
SCSI_ANSWER, DATA_IN, READY_TO_TRANSFER = 0x21, 0x25, 0x31
SERVED = {SCSI_ANSWER, DATA_IN, READY_TO_TRANSFER}
OF_TARGET = {LOGIN_ANSWER, TEXT_ANSWER, LOGOUT_ANSWER, ASYNC, *SERVED}
FULL_FEATURE = 3
ASIDE = "-aside"
"""End of the iSCSI name that the lab uses for its own requests to the array, beside the host's.
Events of such connections have another kind, so that no check takes them for the host's."""


@dataclass
class _Connection:
    """One TCP connection from initiator to portal."""

    initiator: str
    portal: str
    discovery: bool = False
    aside: bool = False
    asked: float | None = None
    isid: str = ""
    answers: list[Event] = field(default_factory=list)
    ended: bool = False
    served: bool = False
    proved: list[str] = field(default_factory=list)
    """Who sent a CHAP response: "host", "target". The login answer tells whether it was right."""


class Conversations:
    """Takes packets in order of time and gives their events."""

    def __init__(self, hosts: Mapping[str, str]) -> None:
        self._hosts = {ip_of(address): name for address, name in hosts.items()}
        self._connections: dict[tuple[str, str], _Connection] = {}
        self._events: list[Event] = []
        self._seen: set[tuple[str, ...]] = set()
        self._claimed: dict[tuple[str, str], str] = {}

    def see(self, packet: Packet, where: str) -> None:
        """Take one packet, captured at `where`."""
        if packet.one("arp.src.proto_ipv4"):
            address, mac = packet.one("arp.src.proto_ipv4"), packet.one("arp.src.hw_mac")
            # Same sender and target: a gratuitous ARP (RFC 5227 section 3).
            self._claim(packet, where, address, mac, address == packet.one("arp.dst.proto_ipv4"))
        elif packet.one("icmpv6.nd.na.target_address"):
            mac = packet.one("icmpv6.opt.linkaddr") or packet.one("eth.src")
            unsolicited = not packet.number("icmpv6.nd.na.flag.s")
            self._claim(packet, where, packet.one("icmpv6.nd.na.target_address"), mac, unsolicited)
        elif packet.one("iscsi.opcode"):
            opcodes = packet.all("iscsi.opcode")
            # The same segment at another place, or retransmitted, is no new event.
            key = (packet.source, packet.destination, packet.one("tcp.seq_raw"), *opcodes)
            if key not in self._seen:
                self._seen.add(key)
                self._iscsi(packet, {int(o, 0) for o in opcodes})
        if _is_set(packet, "tcp.flags.fin") or _is_set(packet, "tcp.flags.reset"):
            self._end(packet)

    def events(self) -> list[Event]:
        """All events, sorted by time; a login without an answer has status None."""
        found = list(self._events)
        for connection in self._connections.values():
            answers = connection.answers
            if not answers and connection.asked is not None:
                answers = [self._login(connection, connection.asked, None, None)]
            for event in answers:
                kind = "discovery-login" if connection.discovery else "login"
                event["kind"] = f"aside-{kind}" if connection.aside else kind
                found.append(event)
        return sorted(found, key=lambda e: e["t"])

    def _claim(self, packet: Packet, where: str, address: str, mac: str, unasked: bool) -> None:
        if address == "0.0.0.0":  # noqa: S104  a probe (RFC 5227) claims nothing
            return
        known = self._claimed.get((where, address)) == mac
        self._claimed[where, address] = mac
        if unasked or not known:
            kind = "announcement" if unasked else "arp-claim"
            self._events.append(
                {
                    "t": packet.t,
                    "where": where,
                    "kind": kind,
                    "address": address,
                    "mac": mac,
                    "source": "wire",
                }
            )

    def _host(self, endpoint: str) -> str:
        return self._hosts.get(ip_of(endpoint), ip_of(endpoint))

    def _connection(self, packet: Packet, opcodes: set[int]) -> _Connection:
        ends = (packet.source, packet.destination)
        initiator, portal = ends[::-1] if opcodes & OF_TARGET else ends
        found = self._connections.get((initiator, portal))
        # A login on a connection with an answered login: its port numbers are used again.
        if found is None or (LOGIN in opcodes and found.answers):
            if found is not None:
                self._connections[initiator, f"{portal}#{id(found)}"] = found
            found = _Connection(initiator, portal)
            self._connections[initiator, portal] = found
        return found

    def _iscsi(self, packet: Packet, opcodes: set[int]) -> None:
        connection = self._connection(packet, opcodes)
        keys = packet.all("iscsi.keyvalue")
        if "SessionType=Discovery" in keys or (TEXT in opcodes and _has(keys, "SendTargets")):
            connection.discovery = True
        if LOGIN in opcodes:
            connection.aside |= any(n.endswith(ASIDE) for n in _values(keys, "InitiatorName"))
            connection.asked = connection.asked or packet.t
            connection.isid = connection.isid or packet.one("iscsi.isid")
        if _has(keys, "CHAP_R"):
            connection.proved.append("target" if opcodes & OF_TARGET else "host")
        if opcodes & SERVED and not connection.served:
            connection.served = True
            self._add(packet.t, connection, "scsi")
        if LOGIN_ANSWER in opcodes and packet.one("iscsi.login.status"):
            self._answer(packet, connection, keys)
        if TEXT_ANSWER in opcodes and _has(keys, "TargetAddress"):
            connection.discovery = True
            portals = [value.split(",")[0] for value in _values(keys, "TargetAddress")]
            self._add(packet.t, connection, "discovery-wire", portals=portals)
        if LOGOUT in opcodes:
            reason = packet.number("iscsi.logout.reason")
            self._add(packet.t, connection, "logout", reason=reason)
        if ASYNC in opcodes:
            names = ("iscsi.parameter1", "iscsi.parameter2", "iscsi.parameter3")
            parameters = [packet.number(n) for n in names if packet.one(n)]
            event = packet.number("iscsi.asyncevent")
            self._add(packet.t, connection, "async", event=event, parameters=parameters)

    def _end(self, packet: Packet) -> None:
        """Record who hung up an iSCSI connection first."""
        ends = (packet.source, packet.destination)
        by = "host" if ends in self._connections else "array"
        found = self._connections.get(ends if by == "host" else ends[::-1])
        if found and not found.ended:
            found.ended = True
            how = "reset" if _is_set(packet, "tcp.flags.reset") else "fin"
            self._add(packet.t, found, "hung-up", by=by, how=how)

    def _answer(self, packet: Packet, connection: _Connection, keys: list[str]) -> None:
        status = packet.number("iscsi.login.status")
        # One event per login: several steps end with the transition to full feature phase.
        over = packet.number("iscsi.login.T") and packet.number("iscsi.login.nsg") == FULL_FEATURE
        if status == 0 and not over:
            return
        address = next(iter(_values(keys, "TargetAddress")), "").split(",")[0] if status else ""
        connection.isid = connection.isid or packet.one("iscsi.isid")
        connection.answers.append(
            self._login(connection, packet.t, f"{status:#06x}", address or None)
        )

    def _login(
        self, connection: _Connection, t: float, status: str | None, address: str | None
    ) -> Event:
        return {
            "t": t,
            "where": self._host(connection.initiator),
            "kind": "login",
            "portal": connection.portal,
            "status": status,
            "target_address": address,
            "isid": connection.isid,
            "proved": [*connection.proved],
            "source": "wire",
        }

    def _add(self, t: float, connection: _Connection, kind: str, **details: object) -> None:
        where = self._host(connection.initiator)
        kind = f"aside-{kind}" if connection.aside else kind
        event = {"t": t, "where": where, "kind": kind, "portal": connection.portal}
        self._events.append({**event, **details, "source": "wire"})


def _is_set(packet: Packet, flag: str) -> bool:
    return bool(packet.one(flag)) and bool(packet.number(flag))


def _values(keys: list[str], name: str) -> list[str]:
    return [key.partition("=")[2] for key in keys if key.startswith(f"{name}=")]


def _has(keys: list[str], name: str) -> bool:
    return any(key.startswith(f"{name}=") for key in keys)
