"""The PDU codec and the renumbering against their specifications, by example and by property."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.pdu import (
    BHS,
    DigestError,
    Op,
    Pdu,
    PduError,
    crc32c,
    crc_change,
    decode,
    decode_keys,
    encode_keys,
    padded,
)
from targets.relay.messages import async_message, login_response
from targets.relay.numbers import Numbering, before

# RFC 3720, appendix B.4: the digests as they stand on the wire.
VECTORS = {
    bytes(32): "aa36918a",
    b"\xff" * 32: "43aba862",
    bytes(range(32)): "4e79dd46",
    bytes(range(31, -1, -1)): "5cdb3f11",
    bytes.fromhex(
        "01c00000 00000000 00000000 00000000 14000000 00000400"
        "00000014 00000018 28000000 00000000 02000000 00000000"
    ): "563a96d9",
}
pdus = st.builds(
    lambda bhs, data, ahs: Pdu(bhs, data, ahs.ljust(padded(len(ahs)), b"\0")),
    st.binary(min_size=BHS, max_size=BHS),
    st.binary(max_size=300),
    st.binary(max_size=240),
)
serials = st.integers(0, 0xFFFFFFFF)
near_the_wrap = st.one_of(serials, st.integers(0xFFFFFFF0, 0xFFFFFFFF), st.integers(0, 16))


@pytest.mark.parametrize(("text", "digest"), VECTORS.items(), ids=VECTORS.values())
def test_crc32c_of_the_rfc(text, digest):
    assert crc32c(text).to_bytes(4, "little").hex() == digest


@given(st.binary(max_size=200), st.binary(min_size=1, max_size=8), st.integers(0, 150))
def test_a_digest_is_carried_over_a_change(text, delta, at):
    at = min(at, len(text))
    old = text[:at] + bytes(len(delta)) + text[at:]
    new = text[:at] + delta + text[at:]
    assert crc32c(old) ^ crc_change(delta, len(text) - at) == crc32c(new)


@given(pdus, st.booleans(), st.booleans(), st.binary(max_size=8))
def test_what_is_encoded_is_decoded(pdu, header, data, behind):
    raw = pdu.encode(header, data)
    found = decode(raw + behind, header, data)
    assert found is not None
    again, size = found
    assert size == len(raw)
    assert size % 4 == 0
    assert (again.data, again.ahs) == (pdu.data, pdu.ahs)
    assert again.bhs[:4] + again.bhs[8:] == pdu.bhs[:4] + pdu.bhs[8:]
    assert again.encode(header, data) == raw


@given(pdus, st.booleans(), st.booleans(), st.data())
def test_a_part_of_a_pdu_is_none(pdu, header, data, choose):
    raw = pdu.encode(header, data)
    cut = choose.draw(st.integers(0, len(raw) - 1))
    assert decode(raw[:cut], header, data) is None


@given(pdus, st.data())
def test_every_spoilt_byte_is_noticed(pdu, choose):
    raw = bytearray(pdu.encode(True, True))
    at = choose.draw(st.sampled_from([i for i in range(len(raw)) if not 4 <= i < 8]))
    raw[at] ^= choose.draw(st.integers(1, 255))
    with pytest.raises(DigestError):
        decode(raw, True, True)


def test_too_much_is_refused_before_it_is_there():
    raw = Pdu(bytes(BHS), bytes(9000)).encode()[:BHS]
    assert decode(raw) is None
    with pytest.raises(PduError, match="at most 8192"):
        decode(raw, limit=8192)
    with pytest.raises(PduError, match="2\\^24"):
        Pdu(bytes(BHS), bytes(1 << 24)).encode()
    with pytest.raises(PduError, match="at most 1020"):
        Pdu(bytes(BHS), ahs=bytes(1024)).encode()
    with pytest.raises(PduError, match="whole words"):
        Pdu(bytes(BHS), ahs=b"abc").encode()


@given(
    st.lists(
        st.tuples(
            st.text("ABCxyz.-_0", min_size=1),
            st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])),
        )
    )
)
def test_text_keys_round_trip(pairs):
    assert decode_keys(encode_keys(pairs)) == pairs


@given(st.binary(max_size=200))
def test_any_text_can_be_read(raw):
    assert all(key for key, _ in decode_keys(raw))


def test_messages_have_their_fields_where_the_rfc_has_them():
    message = async_message(1, stat_sn=0x01020304, exp_cmd_sn=5, max_cmd_sn=6, parameters=(7, 8, 9))
    expected = "32800000 00000000 00000000 00000000 ffffffff 00000000 01020304 00000005 00000006"
    expected += "01000007 00080009 00000000"
    assert message.encode().hex() == expected.replace(" ", "")

    request = Pdu(bytes.fromhex("4387000000000000") + bytes(range(8)) + bytes.fromhex(
        "0000aaaa 00010000 00000063 00000000") + bytes(16))  # fmt: skip
    redirect = login_response(request, 0x0101, [("TargetAddress", "[fd00::12]:3260")])
    assert redirect.opcode == Op.LOGIN_RESPONSE
    assert not redirect.final
    assert redirect.bhs[8:16] == bytes(range(8))
    assert redirect.u32(16) == 0xAAAA
    assert redirect.bhs[36:38] == b"\x01\x01"
    assert redirect.data == b"TargetAddress=[fd00::12]:3260\0"
    assert login_response(request, 0).bhs[1] == 0x87


@pytest.mark.parametrize(
    ("first", "second", "so"),
    [(1, 2, True), (2, 1, False), (5, 5, False), (0xFFFFFFFF, 0, True), (0, 0xFFFFFFFF, False),
     (0x7FFFFFFF, 0x80000000, True), (0, 0x7FFFFFFF, True), (0x7FFFFFFF, 0, False)],
)  # fmt: skip
def test_serial_numbers_compare_across_the_wrap(first, second, so):
    assert before(first, second) is so


@given(near_the_wrap, st.lists(st.sampled_from(["status", "message", "ack", "late-ack"])))
def test_each_side_sees_numbers_without_a_gap(start, acts):
    """A target and an initiator that count for themselves agree through the renumbering."""
    numbering = Numbering()
    mask = 0xFFFFFFFF
    target = seen = start  # the next StatSN on each side
    own: list[tuple[int, int]] = [(seen, target)]  # what each ExpStatSN means to the target
    for act in acts:
        if act == "status":
            assert numbering.to_initiator(target) == seen
            assert numbering.to_target(seen) == target
            target, seen = (target + 1) & mask, (seen + 1) & mask
        elif act == "message":
            assert numbering.inject(target) == seen
            seen = (seen + 1) & mask
        else:
            # A late one was sent before the last messages got there: they are not counted.
            expected, meant = own[len(own) // 2] if act == "late-ack" else own[-1]
            assert numbering.acknowledge(expected) == meant
            own = own[own.index((expected, meant)) :]  # none acknowledges less than this one
        own.append((seen, target))
        # R2T and an unsolicited NOP-In show the next number and take none.
        assert numbering.to_initiator(target) == seen
    assert numbering.acknowledge(seen) == target


def test_an_acknowledgement_under_way_does_not_count_the_message():
    numbering = Numbering()
    assert not numbering.active
    assert numbering.inject(10) == 10
    assert numbering.active
    assert numbering.acknowledge(10) == 10  # "- n" would make it 9
    assert numbering.acknowledge(11) == 10
    assert numbering.to_initiator(10) == 11
    assert numbering.acknowledge(12) == 11


def test_a_status_snack_leaves_our_messages_out():
    numbering = Numbering()
    assert [numbering.inject(n) for n in (0xFFFFFFFF, 1)] == [0xFFFFFFFF, 2]
    assert numbering.run_to_target(0xFFFFFFFE, 5) == (0xFFFFFFFE, 3)
    assert numbering.run_to_target(0, 2) == (0xFFFFFFFF, 2)
    assert numbering.run_to_target(2, 1) == (1, 0)
    assert numbering.run_to_target(0, 0) == (0, 0)
    assert numbering.to_initiator(0xFFFFFFFE) == 0xFFFFFFFE  # sent again: its first number
