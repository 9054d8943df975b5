"""What the capture filter keeps, by the kernel's own filter and opcodes written out of the RFC."""

from __future__ import annotations

import socket
import struct

import pytest

from lab.observe.bpf import compiled, control_filter

SO_ATTACH_FILTER = 26
# RFC 7143, sections 11.2.1.2 and 11.3 to 11.19: opcode and flags of a PDU's first bytes.
KEPT = {
    "NOP-Out": "00 80 00 00",
    "NOP-Out, immediate": "40 80 00 00",
    "Login Request": "43 87 00 00",
    "Text Request": "04 80 00 00",
    "Logout Request, close the session": "46 80 00 00",
    "Logout Request, for recovery": "06 82 00 00",
    "NOP-In": "20 80 00 00",
    "Login Response": "23 87 00 00",
    "Text Response": "24 80 00 00",
    "Logout Response": "26 80 00 00",
    "Logout Response, not possible": "26 80 02 00",
    "Asynchronous Message": "32 80 00 00",
    "Reject": "3f 80 09 00",
}
DROPPED = {
    "SCSI Command": "01 c1 00 00",
    "Data-Out": "05 80 00 00",
    "SCSI Response": "21 80 00 00",
    "Data-In": "25 80 00 00",
    "R2T": "31 80 00 00",
    "data of a disk": "de ad be ef",
    "zeros of a disk": "00 00 00 00",
}
ACK, SYN, FIN, RST = 0x10, 0x02, 0x01, 0x04


def frame(version: int, payload: bytes, flags: int = ACK, port: int = 3260) -> bytes:
    tcp = struct.pack("!HHIIBBHHH", 40000, port, 1, 1, 8 << 4, flags, 512, 0, 0) + bytes(12)
    body = tcp + payload
    if version == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0x4000, 64, 6, 0) + bytes(8)
        return bytes(12) + b"\x08\x00" + head + body
    head = struct.pack("!IHBB", 6 << 28, len(body), 6, 64) + bytes(32)
    return bytes(12) + b"\x86\xdd" + head + body


@pytest.fixture
def passes():
    """Whether a socket with the filter lets a frame pass; no privilege is needed for that."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with here, there, compiled(control_filter((3260, 3261))) as program:
        there.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        there.setblocking(False)

        def ask(data: bytes) -> bool:
            here.send(data)
            try:
                return there.recv(4096) == data
            except BlockingIOError:
                return False

        yield ask


@pytest.mark.parametrize("version", [4, 6])
def test_control_pdus_are_kept_and_data_is_not(passes, version):
    rest = bytes(44)
    seen = {
        name: passes(frame(version, bytes.fromhex(first) + rest))
        for name, first in {**KEPT, **DROPPED}.items()
    }
    assert seen == {**dict.fromkeys(KEPT, True), **dict.fromkeys(DROPPED, False)}


@pytest.mark.parametrize("version", [4, 6])
def test_text_in_a_segment_of_its_own_is_kept(passes, version):
    for text in (b"InitiatorName=iqn.x", b"TargetAddress=10.0.0.12:3260,1", b"CHAP_A=5",
                 b"SessionType=Normal", b"AuthMethod=None", b"SendTargets=All",
                 b"HeaderDigest=None"):  # fmt: skip
        assert passes(frame(version, text)), text


@pytest.mark.parametrize("version", [4, 6])
def test_the_ends_of_a_connection_are_kept_and_acknowledgements_are_not(passes, version):
    assert all(passes(frame(version, b"", flags | ACK)) for flags in (SYN, FIN, RST))
    assert not passes(frame(version, b""))


@pytest.mark.parametrize("version", [4, 6])
def test_only_the_ports_of_iscsi(passes, version):
    login = bytes.fromhex(KEPT["Login Request"]) + bytes(44)
    assert passes(frame(version, login, port=3261))
    assert not passes(frame(version, login, port=22))
    assert not passes(frame(version, b"", SYN, port=22))


def test_claims_to_addresses_are_kept():
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with here, there, compiled(control_filter()) as program:
        there.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        there.setblocking(False)
        head = struct.pack("!IHBB", 6 << 28, 24, 58, 255) + bytes(32)
        arp = bytes(12) + b"\x08\x06" + bytes(28)
        here.send(arp)
        assert there.recv(100) == arp
        for kind, kept in ((132, 0), (133, 1), (136, 1), (137, 0), (128, 0)):
            here.send(bytes(12) + b"\x86\xdd" + head + bytes([kind]) + bytes(23))
            try:
                assert there.recv(100)
                assert kept, kind
            except BlockingIOError:
                assert not kept, kind


def test_a_wrong_expression_says_what_is_wrong_with_it():
    with pytest.raises(ValueError, match="no such thing"), compiled("no such thing"):
        pass
