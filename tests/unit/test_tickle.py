"""The segment that makes a host notice that its connection is gone."""

import struct

import pytest

from lab.controller.tickle import REPEAT_S, Tickler, segment


@pytest.mark.parametrize(("host", "address"), [("10.0.0.101", "10.0.0.11"), ("fd00::2", "fd00::1")])
def test_segment_has_a_right_checksum(host, address):
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    data = segment(host, 39058, address)
    assert struct.unpack_from("!HH", data) == (3260, 39058)
    assert data[13] == 0x10  # ACK and nothing else
    whole = socket.inet_pton(family, address) + socket.inet_pton(family, host)
    whole += struct.pack("!II", len(data), 6) + data
    total = sum(struct.unpack(f"!{len(whole) // 2}H", whole))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF


def test_only_hosts_of_the_address_and_repeated(monkeypatch):
    sent = []
    tickler = Tickler()
    monkeypatch.setattr(tickler, "_send", lambda *connection: sent.append(connection))
    tickler.heirs([("h1", 1000, "x"), ("h2", 1001, "y")])
    tickler.gained("x", 5.0)
    assert sent == [("h1", 1000, "x")]
    tickler.repeat(5.0 + REPEAT_S[-1])
    assert sent == [("h1", 1000, "x")] * len(REPEAT_S)
