"""A small initiator for tests: it shows what a real one keeps to itself."""

from __future__ import annotations

import hashlib
import socket
import struct
from dataclasses import dataclass, field

from lab.sandbox import in_network_of


def socket_in(pid: int, family: int = socket.AF_INET) -> socket.socket:
    """A TCP socket of the network namespace of process `pid`."""
    return in_network_of(pid, lambda: socket.socket(family))


@dataclass
class Login:
    """What a login was answered: its status, the keys, and the ISID of the response."""

    status: int
    keys: dict[str, str]
    isid: bytes = b""


@dataclass
class Initiator:
    """One connection from address `source` in the namespace of process `pid`."""

    pid: int
    source: str
    name: str = "iqn.2024-01.lab.h1:host"
    isid: bytes = b"\x80\x12\x34\x56\x00\x01"
    sock: socket.socket = field(init=False)
    cmd_sn: int = 1
    stat_sn: int = 0

    def connect(self, address: str, port: int = 3260) -> Initiator:
        """Connect to a portal, with no login."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.sock = socket_in(self.pid, family)
        self.sock.settimeout(3)
        self.sock.bind((self.source, 0))
        self.sock.connect((address, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self

    def close(self) -> None:
        """Close the connection with no word to the target."""
        self.sock.close()

    def __enter__(self) -> Initiator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def exactly(self, size: int) -> bytes:
        """The next `size` bytes; EOFError if the connection ends before."""
        got = b""
        while len(got) < size:
            piece = self.sock.recv(size - len(got))
            if not piece:
                raise EOFError
            got += piece
        return got

    def send(
        self,
        opcode: int,
        flags: int,
        text: bytes = b"",
        middle: bytes = b"",
        lun: bytes = bytes(8),
        itt: int = 1,
    ) -> None:
        """Send a PDU; `middle` goes to bytes 20 to 23, and on from 32."""
        pdu = bytearray(48)
        pdu[0], pdu[1] = opcode, flags
        pdu[5:8] = len(text).to_bytes(3, "big")
        pdu[8:16] = lun
        pdu[16:20] = itt.to_bytes(4, "big")
        pdu[20 : 20 + len(middle)] = middle
        pdu[24:28] = self.cmd_sn.to_bytes(4, "big")
        pdu[28:32] = self.stat_sn.to_bytes(4, "big")
        if len(middle) > 12:
            pdu[32 : 20 + len(middle)] = middle[12:]
        self.sock.sendall(bytes(pdu) + text + bytes(-len(text) % 4))
        if not opcode & 0x40:
            self.cmd_sn += 1

    def receive(self) -> tuple[bytes, bytes]:
        """The next PDU: its header and its data."""
        header = self.exactly(48)
        length = int.from_bytes(header[5:8], "big")
        data = self.exactly(length + -length % 4)[:length]
        self.stat_sn = int.from_bytes(header[24:28], "big") + 1
        if header[36:38] == b"\0\0":  # not in a login that failed
            assert int.from_bytes(header[28:32], "big") == self.cmd_sn
        return header, data

    def login_step(self, flags: int, keys: dict[str, str]) -> tuple[int, Login]:
        """One Login Request with `keys`: the flags of the response, and what it says."""
        text = "".join(f"{k}={v}\0" for k, v in keys.items()).encode()
        self.send(0x43, flags, text, lun=self.isid + bytes(2))
        header, data = self.receive()
        assert header[0] == 0x23
        assert header[16:20] == b"\0\0\0\1"
        pairs = (p.partition("=") for p in data.decode().split("\0") if p)
        status = int.from_bytes(header[36:38], "big")
        return header[1], Login(status, {k: v for k, _, v in pairs}, header[8:14])

    def login(self, target: str | None, user: str = "", secret: str = "") -> Login:
        """Log in to `target`, for discovery if None, with CHAP if a `user` is given."""
        keys = {"InitiatorName": self.name, "AuthMethod": "CHAP,None" if user else "None"}
        keys |= {"TargetName": target, "SessionType": "Normal"} if target else {}
        keys |= {} if target else {"SessionType": "Discovery"}
        # Security stage, ready for the operational one.
        flags, answer = self.login_step(0x81 if not user else 0x01, keys)
        if user and not answer.status and answer.keys.get("AuthMethod") == "CHAP":
            flags, answer = self.login_step(0x01, {"CHAP_A": "5"})
            if answer.status:
                return answer
            challenge = bytes.fromhex(answer.keys["CHAP_C"][2:])
            number = int(answer.keys["CHAP_I"])
            told_and_known = bytes([number]) + secret.encode() + challenge
            proof = hashlib.md5(told_and_known).hexdigest()  # noqa: S324  what CHAP is made of
            flags, answer = self.login_step(0x81, {"CHAP_N": user, "CHAP_R": "0x" + proof})
        elif user and not answer.status:
            flags, answer = self.login_step(0x81, {})
        if answer.status or not flags & 0x80:
            return answer
        keys = {"HeaderDigest": "None", "DataDigest": "None", "MaxRecvDataSegmentLength": "65536"}
        keys |= {"DefaultTime2Wait": "2", "ErrorRecoveryLevel": "0", "X-lab.test": "1"}
        told = dict(answer.keys)
        flags, last = self.login_step(0x87, keys)
        while not last.status and not flags & 0x80:
            # What the target offers of its own accord is answered by the same.
            told |= last.keys
            keys = {k: v for k, v in last.keys.items() if k not in keys}
            flags, last = self.login_step(0x87, keys)
        assert last.status or flags & 0x83 == 0x83, hex(flags)
        return Login(last.status, told | last.keys, last.isid)

    def discover(self, what: str = "All") -> list[tuple[str, str]]:
        """SendTargets: pairs of target name and address."""
        self.send(0x04, 0x80, f"SendTargets={what}\0".encode(), middle=b"\xff" * 4, itt=7)
        header, data = self.receive()
        assert header[0] == 0x24
        assert header[16:20] == b"\0\0\0\7"
        found, name = [], ""
        for key, _, value in (line.partition("=") for line in data.decode().split("\0") if line):
            if key == "TargetName":
                name = value
            else:
                found.append((name, value))
        return found

    def ping(self) -> bytes:
        """NOP-Out with data, and the data that comes back."""
        self.send(0x40, 0x80, b"still there?", middle=b"\xff" * 4, itt=9)
        header, data = self.receive()
        assert header[0] == 0x20
        return data

    def inquiry(self, lun: int, page: int) -> bytes:
        """A vital product data page of `lun`."""
        cdb = struct.pack(">BBBHB", 0x12, 1, page, 255, 0)
        middle = struct.pack(">I", 255) + bytes(8) + cdb.ljust(16, b"\0")
        where = struct.pack(">H", lun) + bytes(6)
        for itt in range(2, 9):
            # A new session meets unit attentions first.
            self.send(0x01, 0xC1, middle=middle, lun=where, itt=itt)
            header, data = self.receive()
            if header[0] == 0x25:
                if not header[1] & 0x01:
                    self.receive()
                return data
        raise AssertionError(f"no data: {header.hex()}")
