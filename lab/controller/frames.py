"""The controller's frames: announcements, probes, and questions to hosts."""

from __future__ import annotations

import socket
import struct

ETH_ARP, ETH_IPV6 = 0x0806, 0x86DD
ETH_PROBE = 0x88B5
"""IEEE 802 local experimental ethertype 1 (IEEE 802-2014, 9.2.4)."""
BROADCAST = b"\xff" * 6


def announcements(address: str, mac: bytes) -> list[bytes]:
    """The frames that tell all hosts that `address` is at `mac` now.

    IPv4: an ARP announcement (RFC 5227, 2.3: a request for its own address) and the same as a
    reply, because some hosts listen to only one of the two (RFC 5227, 3). The reply's target is
    its sender, so that Linux treats it as gratuitous: it then replaces an entry even within the
    lock time (arp_is_garp, net/ipv4/arp.c). IPv6: an unsolicited neighbour advertisement with the
    override flag (RFC 4861, 7.2.6).
    """
    if ":" in address:
        return [_advertisement(address, mac)]
    ip = socket.inet_aton(address)
    return [
        _arp(1, BROADCAST, mac, ip, bytes(6), ip),
        _arp(2, BROADCAST, mac, ip, mac, ip),
    ]


def question(address: str, mac: bytes) -> bytes:
    """A frame that the host with `address` answers to `mac`; it needs no address of ours.

    IPv4: an ARP probe (RFC 5227, 2.1.1: the sender address is zero, so that no cache changes).
    IPv6: a neighbour solicitation (RFC 4861, 4.3) from the link-local address made of `mac`.
    """
    if ":" not in address:
        return _arp(1, BROADCAST, mac, bytes(4), bytes(6), socket.inet_aton(address))
    target = socket.inet_pton(socket.AF_INET6, address)
    source = _link_local(mac)
    group = bytes.fromhex("ff0200000000000000000001ff") + target[13:]
    body = struct.pack("!BBHI", 135, 0, 0, 0) + target + b"\x01\x01" + mac
    return _icmp6(b"\x33\x33" + group[12:], mac, source, group, body)


def answer(frame: bytes) -> str | None:
    """The sender of this ARP reply or neighbour advertisement; None if `frame` is neither."""
    kind = int.from_bytes(frame[12:14], "big")
    if kind == ETH_ARP and len(frame) >= 42 and frame[20:22] == b"\0\x02":
        return socket.inet_ntoa(frame[28:32])
    if kind == ETH_IPV6 and len(frame) >= 78 and frame[20] == 58 and frame[54] == 136:
        return socket.inet_ntop(socket.AF_INET6, frame[62:78])
    return None


def probe(target: bytes, mac: bytes, sealed: bytes) -> bytes:
    """A probe from `mac` to the MAC `target`: a `sealed` frame (sealed.py)."""
    return (target + mac + ETH_PROBE.to_bytes(2, "big") + sealed).ljust(60, b"\0")


def probed(frame: bytes) -> bytes:
    """The sealed frame in a probe, with padding."""
    return frame[14:]


def _arp(op: int, to: bytes, mac: bytes, ip: bytes, target: bytes, target_ip: bytes) -> bytes:
    head = to + mac + ETH_ARP.to_bytes(2, "big") + struct.pack("!HHBBH", 1, 0x0800, 6, 4, op)
    return (head + mac + ip + target + target_ip).ljust(60, b"\0")


def _advertisement(address: str, mac: bytes) -> bytes:
    source = socket.inet_pton(socket.AF_INET6, address)
    group = bytes.fromhex("ff020000000000000000000000000001")
    # Not solicited, from no router, override.
    body = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + source + b"\x02\x01" + mac
    return _icmp6(b"\x33\x33\0\0\0\x01", mac, source, group, body)


def _icmp6(to: bytes, mac: bytes, source: bytes, target: bytes, body: bytes) -> bytes:
    """An ICMPv6 frame with hop limit 255; receivers drop others (RFC 4861, 7.1)."""
    body = body[:2] + checksum(source, target, socket.IPPROTO_ICMPV6, body) + body[4:]
    head = struct.pack("!IHBB", 0x60000000, len(body), 58, 255) + source + target
    return to + mac + ETH_IPV6.to_bytes(2, "big") + head + body


def checksum(source: bytes, target: bytes, protocol: int, body: bytes) -> bytes:
    """The Internet checksum of `body` and its pseudo-header; the checksum field must be 0.

    `source` and `target` are packed addresses. The body has an even length (RFC 1071; RFC 9293,
    3.1; RFC 8200, 8.1).
    """
    summed = source + target + struct.pack("!II", len(body), protocol) + body
    total = sum(struct.unpack(f"!{len(summed) // 2}H", summed))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def _link_local(mac: bytes) -> bytes:
    eui = bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
    return b"\xfe\x80" + bytes(6) + eui
