"""One packet in tshark's output."""

from __future__ import annotations

from dataclasses import dataclass

from lab.portal import Portal

FIELDS = (
    "frame.number",
    "frame.interface_id",
    "frame.time_epoch",
    "eth.src",
    "arp.src.hw_mac",
    "arp.src.proto_ipv4",
    "arp.dst.proto_ipv4",
    "icmpv6.nd.na.target_address",
    "icmpv6.nd.na.flag.s",
    "icmpv6.opt.linkaddr",
    "ip.src",
    "ipv6.src",
    "tcp.srcport",
    "ip.dst",
    "ipv6.dst",
    "tcp.dstport",
    "tcp.seq_raw",
    "tcp.analysis.out_of_order",
    "tcp.analysis.retransmission",
    "tcp.flags.fin",
    "tcp.flags.reset",
    "iscsi.opcode",
    "iscsi.login.status",
    "iscsi.login.T",
    "iscsi.login.nsg",
    "iscsi.isid",
    "iscsi.keyvalue",
    "iscsi.logout.reason",
    "iscsi.asyncevent",
    "iscsi.parameter1",
    "iscsi.parameter2",
    "iscsi.parameter3",
)
"""The fields that tshark prints, tab separated; several values of one field are separated by US."""


@dataclass(frozen=True)
class Packet:
    """The fields of one packet: name -> values; absent fields have no entry."""

    fields: dict[str, list[str]]

    def all(self, name: str) -> list[str]:
        """All values of a field."""
        return self.fields.get(name, [])

    def one(self, name: str) -> str:
        """The first value of a field, or ''."""
        return self.all(name)[0] if self.all(name) else ""

    def number(self, name: str) -> int:
        """The first value of a field as a number (tshark prints decimal, hex or a boolean)."""
        value = self.one(name)
        return int(value == "True") if value in ("True", "False") else int(value, 0)

    @property
    def interface(self) -> int:
        """The number of the merged file that it is from."""
        return self.number("frame.interface_id")

    @property
    def t(self) -> float:
        """The time of capture, Unix seconds."""
        return float(self.one("frame.time_epoch"))

    @property
    def source(self) -> str:
        """Its TCP source, written as a portal."""
        return self._portal("src")

    @property
    def destination(self) -> str:
        """Its TCP destination, written as a portal."""
        return self._portal("dst")

    def _portal(self, end: str) -> str:
        address = self.one(f"ip.{end}") or self.one(f"ipv6.{end}")
        return str(Portal(address, int(self.one(f"tcp.{end}port") or 0)))


def parse(line: str) -> Packet:
    """The packet in a line of tshark's output."""
    values = line.split("\t")
    pairs = zip(FIELDS, values, strict=False)
    return Packet({name: value.split("\x1f") for name, value in pairs if value})
