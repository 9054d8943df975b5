"""The process of the steered front: `python3 -m targets.front CONFIG.json`.

It accepts connections at the virtual addresses, answers SendTargets with the address the host
connected to, and redirects logins. If a host is to be served at the virtual port, it passes the
connection on to the engine, byte for byte. Numbers and names are those of RFC 7143, sections 11 and
13. Standard library only.

It refuses a host that is not on the access list of the target. It requires CHAP at discovery if the
configuration has an account for that. The engine does CHAP of other logins, where it serves.

tgtd cannot do this: its RedirectCallback, the only way to answer each host differently, has crashed
it at the first login since 1.0.71, and RedirectAddress is the same for all hosts.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from lab.portal import Portal
from targets.chap import Unproven
from targets.front.discovery import DiscoveryLogin
from targets.front.splice import pass_on
from targets.pdu import (
    BHS,
    LOGIN_CONTINUE,
    NO_TAG,
    Op,
    Pdu,
    PduError,
    decode,
    decode_keys,
    encode_keys,
    size_of,
)

SUCCESS, MOVED_TEMPORARILY, MOVED_PERMANENTLY = 0x0000, 0x0101, 0x0102
INITIATOR_ERROR, AUTHENTICATION_FAILURE, FORBIDDEN = 0x0200, 0x0201, 0x0202
NOT_FOUND, MISSING_PARAMETER = 0x0203, 0x0207
TARGET_ERROR, SERVICE_UNAVAILABLE = 0x0300, 0x0301
FINAL = 0x80

LOGIN_SECONDS = 15.0
LONGEST_TEXT = 1 << 16
# From linux/in.h and linux/in6.h; the socket module has no names for them.
IP_FREEBIND, IPV6_FREEBIND = 15, 78


class Refused(Exception):
    """The peer sent nothing, or a request that is not answered; its connection ends."""


def read_pdu(sock: socket.socket) -> tuple[Pdu, bytes]:
    """The next request and its raw bytes; PduError if its data exceeds LONGEST_TEXT bytes."""
    raw = b""
    while (found := decode(raw, limit=LONGEST_TEXT)) is None:
        wanted = sum(size_of(raw)) if len(raw) >= BHS else BHS
        piece = sock.recv(wanted - len(raw))
        if not piece:
            raise Refused("the connection ended")
        raw += piece
    return found[0], raw


class Answers:
    """Builds the responses of one connection, with their sequence numbers."""

    stat_sn = 0

    def build(self, request: Pdu, opcode: int, flags: int, data: bytes = b"") -> bytearray:
        """A response to `request`; the caller fills in the fields of its type."""
        bhs = bytearray(BHS)
        bhs[0], bhs[1] = opcode, flags
        bhs[16:20] = request.bhs[16:20]
        expected = request.u32(24) + (not request.immediate)
        for at, number in ((24, self.stat_sn), (28, expected), (32, expected + 1)):
            bhs[at : at + 4] = (number & 0xFFFFFFFF).to_bytes(4, "big")
        self.stat_sn += 1
        return bytearray(Pdu(bytes(bhs), data).encode())

    def login(
        self, request: Pdu, status: int, data: bytes = b"", flags: int = 0, tsih: int = 0
    ) -> bytearray:
        """A Login Response with `status` as class and detail, 0x0101 for example."""
        pdu = self.build(request, Op.LOGIN_RESPONSE, flags, data)
        pdu[8:14] = request.bhs[8:14]
        pdu[14:16] = tsih.to_bytes(2, "big")
        pdu[36:38] = status.to_bytes(2, "big")
        return pdu


class Service:
    """The steered front of one array."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.steering = Path(config["steering"])
        self.engine = Portal.parse(config["engine"])
        self.targets = {t["iqn"]: frozenset(t["initiators"]) for t in config["targets"]}
        self.account: dict[str, str] | None = config["discovery"]
        self._print = threading.Lock()

    def say(self, what: str, **details: str) -> None:
        """One line of JSON on standard output."""
        with self._print:
            print(json.dumps({"what": what, **details}), flush=True)

    def listen(self, portal: str) -> int:
        """Accept at `portal`, even before the array has its address. Returns the port number."""
        at = Portal.parse(portal, any_port=True)
        listener = socket.socket(at.family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if at.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        else:
            listener.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        listener.bind(at.name)
        listener.listen(512)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return int(listener.getsockname()[1])

    def _accept(self, listener: socket.socket) -> None:
        while True:
            # Go on listening if a host has left already, or if there are too many at once.
            with contextlib.suppress(OSError, RuntimeError):
                host, _ = listener.accept()
                threading.Thread(target=self._handle, args=(host,), daemon=True).start()

    def _handle(self, host: socket.socket) -> None:
        with host:
            try:
                host.settimeout(LOGIN_SECONDS)
                host.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._login(host, *read_pdu(host))
            except (Refused, PduError, OSError) as reason:
                print(f"front: {reason}", file=sys.stderr, flush=True)

    def _login(self, host: socket.socket, request: Pdu, raw: bytes) -> None:
        if request.opcode != Op.LOGIN_REQUEST:
            raise Refused(f"first PDU has opcode {request.opcode:#x}")
        keys, answers = dict(decode_keys(request.data)), Answers()
        name, target = keys.get("InitiatorName", ""), keys.get("TargetName", "")
        discovery = keys.get("SessionType") == "Discovery"
        # The names that decide must be in the first PDU, so it must not be continued.
        if request.bhs[1] & LOGIN_CONTINUE:
            host.sendall(answers.login(request, INITIATOR_ERROR))
        elif not name or not (target or discovery):
            host.sendall(answers.login(request, MISSING_PARAMETER))
        elif discovery:
            self._discovery(host, request, answers, name)
        elif target not in self.targets:
            host.sendall(answers.login(request, NOT_FOUND))
        elif self.targets[target] and name not in self.targets[target]:
            self._refuse(host, request, answers, FORBIDDEN, initiator=name, target=target)
        else:
            self._steer(host, request, raw, name, target)

    def _refuse(
        self, host: socket.socket, request: Pdu, answers: Answers, status: int, **who: str
    ) -> None:
        host.sendall(answers.login(request, status))
        self.say(
            "refused", host=Portal.of(host.getpeername()).address, **who, status=f"{status:#06x}"
        )

    def _steer(self, host: socket.socket, request: Pdu, raw: bytes, name: str, target: str) -> None:
        address = Portal.of(host.getpeername()).address
        who = {"host": address, "initiator": name, "target": target}
        portal, _, reason = self._line(address).rpartition(":")
        moved = {"Temporary": MOVED_TEMPORARILY, "Permanent": MOVED_PERMANENTLY}.get(reason)
        status, data = TARGET_ERROR if reason else SERVICE_UNAVAILABLE, b""
        if reason == "here":
            try:
                engine = socket.create_connection(self.engine.name, timeout=LOGIN_SECONDS)
            except OSError:
                status = SERVICE_UNAVAILABLE
            else:
                self._serve(host, engine, raw, who)
                return
        elif moved:
            # No portal group tag here: section 13.8.
            status, data = moved, encode_keys({"TargetAddress": portal})
        host.sendall(Answers().login(request, status, data))
        if data:
            self.say("redirected", **who, to=portal)
        else:
            self.say("refused", **who, status=f"{status:#06x}")

    def _line(self, address: str) -> str:
        """The controller's decision for the host at `address`, "" if there is none."""
        for name in (address, "default6" if ":" in address else "default"):
            with contextlib.suppress(FileNotFoundError):
                return (self.steering / name).read_text().strip()
        return ""

    def _serve(
        self, host: socket.socket, engine: socket.socket, raw: bytes, who: dict[str, str]
    ) -> None:
        portal = str(Portal.of(host.getsockname()))
        with engine:
            self.say("serving", **who, portal=portal)
            engine.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            engine.sendall(raw)
            host.settimeout(None)
            engine.settimeout(None)
            back = threading.Thread(target=pass_on, args=(engine, host), daemon=True)
            back.start()
            pass_on(host, engine)
            back.join()
        self.say("served", **who, portal=portal)

    def _discovery(self, host: socket.socket, request: Pdu, answers: Answers, name: str) -> None:
        login = DiscoveryLogin(self.account)
        while not login.done:
            if request.opcode != Op.LOGIN_REQUEST:
                raise Refused(f"opcode {request.opcode:#x} before the end of the login")
            try:
                flags, data = login.answer(request)
            except Unproven as reason:
                print(f"front: discovery of {name!r}: {reason}", file=sys.stderr, flush=True)
                status = AUTHENTICATION_FAILURE
                self._refuse(host, request, answers, status, initiator=name, target="")
                return
            host.sendall(answers.login(request, SUCCESS, data, flags, tsih=int(login.done)))
            request, _ = read_pdu(host)
        while self._full_feature(host, request, answers, name):
            request, _ = read_pdu(host)

    def _full_feature(self, host: socket.socket, request: Pdu, answers: Answers, name: str) -> bool:
        """Answer one request of a discovery session; False when it was the last."""
        data = b""
        if request.opcode == Op.TEXT_REQUEST:
            at = f"{Portal.of(host.getsockname())},1"
            asked = dict(decode_keys(request.data)).get("SendTargets")
            for iqn, initiators in self.targets.items():
                if asked in ("All", iqn) and (not initiators or name in initiators):
                    data += encode_keys({"TargetName": iqn, "TargetAddress": at})
        elif request.opcode == Op.NOP_OUT:
            data = request.data
            if request.u32(16) == NO_TAG:
                return True
        elif request.opcode != Op.LOGOUT_REQUEST:
            raise Refused(f"opcode {request.opcode:#x} in a discovery session")
        pdu = answers.build(request, request.opcode | 0x20, FINAL, data)
        if request.opcode != Op.LOGOUT_REQUEST:
            pdu[20:24] = NO_TAG.to_bytes(4, "big")
        host.sendall(pdu)
        return request.opcode != Op.LOGOUT_REQUEST


def main() -> None:
    """Serve until standard input ends: then the lab is gone."""
    config = json.loads(Path(sys.argv[1]).read_text())
    service = Service(config)
    for portal in config["listen"]:
        service.listen(portal)
    service.say("ready")
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
