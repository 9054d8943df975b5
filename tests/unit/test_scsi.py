"""SCSI commands and what comes back, as bytes: captured from tgt and LIO."""

from __future__ import annotations

import pytest

from lab.commands import Result
from lab.errors import LabError
from lab.host.scsi import (
    CONFLICT,
    READ_CAPACITY,
    READ_KEYS,
    identity,
    inquiry,
    reservation,
    reserve_out,
    send,
    write_block,
)

SERIAL = bytes.fromhex("00800018") + b"6000009200000001-a1lun1\0"
DEVICE = bytes.fromhex("0083000c 01030008 6000009200000001")
CAPACITY = bytes.fromhex("000000000001ffff 00000200") + bytes(20)
FREE = bytes.fromhex("00000001 00000000")
KEYS = bytes.fromhex("00000002 00000010 00000000000000a1 00000000000000b2")
HELD = bytes.fromhex("00000002 00000010 00000000000000a1 00000000 00 01 0000")


def test_the_commands_are_those_of_the_standard():
    assert inquiry(0x83).cdb.hex() == "12018300fc00"
    assert READ_CAPACITY.cdb.hex() == "9e10" + "00" * 11 + "200000"
    assert READ_KEYS.cdb.hex() == "5e00" + "00" * 6 + "fc00"
    out = reserve_out(0, 0, 0xA1, aptpl=True)
    assert out.cdb.hex() == "5f0000" + "00" * 5 + "1800"
    assert out.data.hex() == "00" * 8 + "00000000000000a1" + "00000000" + "01000000"
    assert reserve_out(1, 0xA1).cdb.hex() == "5f0101" + "00" * 5 + "1800"
    assert write_block(131071).cdb.hex() == "2a000001ffff00000100"
    assert (len(READ_CAPACITY.cdb), len(write_block(0).data)) == (16, 512)


def test_who_a_disk_is():
    assert identity(SERIAL, DEVICE, CAPACITY) == {
        "serial": "6000009200000001-a1lun1\0",
        "designators": "010300086000009200000001",
        "size_bytes": 64 << 20,
        "block_bytes": 512,
    }


@pytest.mark.parametrize(
    ("serial", "device", "capacity", "said"),
    [
        (b"", DEVICE, CAPACITY, "0x80: nothing"),
        (SERIAL[:-1], DEVICE, CAPACITY, "0x80: 0080"),
        (DEVICE, DEVICE, CAPACITY, "0x80: 0083"),
        (SERIAL, DEVICE[:3], CAPACITY, "0x83"),
        (SERIAL, DEVICE, CAPACITY[:8], "READ CAPACITY"),
    ],
)
def test_what_is_cut_short_is_no_identity(serial, device, capacity, said):
    with pytest.raises(LabError, match=said):
        identity(serial, device, capacity)


def test_who_reserved_it():
    found = reservation(KEYS, HELD)
    assert found["keys"] == ["0x00000000000000a1", "0x00000000000000b2"]
    assert (found["holder"], found["type"], found["generation"]) == (found["keys"][0], 1, 2)


def test_a_disk_that_nobody_reserved():
    found = reservation(FREE, FREE)
    assert (found["keys"], found["holder"], found["type"]) == ([], None, None)


class Guest:
    """As much of a host as send() wants; `answer` is what its program prints."""

    name = "h1"

    def __init__(self, answer: str) -> None:
        self.answer, self.asked, self.runner = answer, "", self
        self.kernel = self

    def run(self, argv, *, seconds, stdin):
        self.asked = stdin
        return Result(0, self.answer)


def test_each_command_has_its_answer():
    guest = Guest("0 00800000\n24 \n")
    found = send(guest, [("sda", inquiry(0x80)), ("sdb", reserve_out(1, 1))])
    assert found == [(0, bytes.fromhex("00800000")), (CONFLICT, b"")]
    first, second = guest.asked.splitlines()
    assert first == "sda 12018000fc00 252 -"
    assert second.split()[:3] == ["sdb", "5f0101" + "00" * 5 + "1800", "0"]


def test_an_answer_that_is_missing():
    with pytest.raises(LabError, match="2 SCSI commands"):
        send(Guest("0 00\n"), [("sda", READ_KEYS), ("sda", READ_KEYS)])
