"""Sealed frames: what is not the array's, or was seen before, is not taken and changes nothing."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.controller.config import Probe
from lab.controller.head_agent import order_of
from lab.controller.head_probe import COUNT, Signs
from lab.controller.probe import Prober
from lab.controller.sealed import (
    BEAT,
    CONTROLLER,
    HEAD_PROBE,
    HEADER,
    ORDER,
    Frame,
    Refused,
    Rejected,
    opened,
    read_key,
    seal,
)

KEY, OTHER = b"k" * 32, b"o" * 32
FRAME = Frame(1, 7, 99, b'{"to": "a"}')


def test_a_frame_comes_back_also_with_padding():
    data = seal(KEY, BEAT, FRAME)
    assert opened(KEY, BEAT, data) == opened(KEY, BEAT, data + bytes(9)) == FRAME


@pytest.mark.parametrize(
    ("key", "kind", "data", "reason"),
    [
        (OTHER, BEAT, seal(KEY, BEAT, FRAME), "key"),
        (KEY, ORDER, seal(KEY, BEAT, FRAME), "kind"),
        (KEY, BEAT, seal(KEY, BEAT, FRAME)[:-1], "short"),
        (KEY, BEAT, b"", "short"),
        (KEY, BEAT, b'{"head": "a1a", "boot": "x", "addresses": []}' * 2, "kind"),
    ],
)
def test_what_is_refused(key, kind, data, reason):
    with pytest.raises(Refused, match=reason):
        opened(key, kind, data)


@given(st.integers(0, len(seal(KEY, BEAT, FRAME)) - 1), st.integers(1, 255))
def test_no_byte_can_be_changed(at, by):
    data = bytearray(seal(KEY, BEAT, FRAME))
    data[at] ^= by
    with pytest.raises(Refused):
        opened(KEY, BEAT, bytes(data))


BYTES = st.binary(max_size=200) | st.binary(max_size=120).map(
    lambda body: HEADER.pack(1, HEAD_PROBE, 0, len(body), 7, 9) + body + bytes(16)
)


@given(BYTES)
def test_any_bytes_change_nothing(data):
    for kind in (BEAT, ORDER):
        with pytest.raises(Refused):
            opened(KEY, kind, data)
    signs = Signs(KEY, 1, 5)
    before = copy.deepcopy(vars(signs))
    with pytest.raises(Refused):
        signs.heard(data)
    assert vars(signs) == before
    prober = Prober(["p1", "p2"], Probe(0.004, 3))
    with pytest.raises(Refused):
        prober._sender("p1", data)
    assert not prober._numbers


def test_an_order_is_taken_once_and_by_the_head_that_it_is_for():
    frame = Frame(CONTROLLER, 7, 99, b'{"to": "a"}')
    assert order_of(frame, "a", (7, 98)) == {"to": "a"}
    for head, last, reason in (("b", (0, 0), "another head"), ("a", (7, 99), "seen"),
                               ("a", (8, 0), "seen")):  # fmt: skip
        with pytest.raises(Refused, match=reason):
            order_of(frame, head, last)
    with pytest.raises(Refused, match="another sender"):
        order_of(FRAME, "a", (0, 0))


class Two:
    """Two heads on a wire. `heard` says who hears whom."""

    def __init__(self) -> None:
        self.a, self.b = Signs(KEY, 0, 11), Signs(KEY, 1, 12)
        self.said: list[bytes] = []

    def rounds(self, count: int, *, a_hears=True, b_hears=True, hosts=False) -> None:
        for _ in range(count):
            self.a.round += 1
            self.b.round += 1
            from_a, from_b = self.a.say(), self.b.say()
            self.said.append(from_b)
            if b_hears:
                self.b.heard(from_a)
            if a_hears:
                self.a.heard(from_b)
            if hosts:
                self.a.host_answered()


def test_heads_that_hear_each_other_are_live():
    two = Two()
    two.rounds(3 * COUNT)
    assert two.a.live
    assert two.b.live


def test_a_mute_head_is_dark_whatever_hosts_say():
    two = Two()
    two.rounds(COUNT)
    two.rounds(3 * COUNT, b_hears=False, hosts=True)
    assert not two.a.live


def test_a_deaf_head_is_dark_although_captured_probes_are_played_to_it():
    two = Two()
    two.rounds(COUNT)
    two.rounds(3 * COUNT, a_hears=False)
    two.a.round += 1
    for data in two.said[:COUNT]:
        with pytest.raises(Refused, match="seen before"):
            two.a.heard(data)
    assert not two.a.live


def test_probes_of_an_earlier_boot_neither_keep_a_head_alive_nor_hide_the_present_one():
    two = Two()
    two.rounds(COUNT)
    two.a = Signs(KEY, 0, 13)  # it has booted again, and remembers no number
    captured = list(two.said)
    for data in captured:
        two.a.round += 1
        two.a.heard(data)  # nothing says that they are old,
    two.a.round += COUNT
    assert not two.a.live  # but they name another boot of this head
    two.b = Signs(KEY, 1, 14)
    two.rounds(3 * COUNT)
    assert two.a.live
    assert two.b.live
    with pytest.raises(Refused):
        two.a.heard(captured[-1])
    assert two.a.live


def test_the_last_head_believes_hosts_at_once():
    two = Two()
    two.rounds(COUNT)
    for _ in range(4 * COUNT):
        two.rounds(1, a_hears=False, b_hears=False, hosts=True)
        assert two.a.live


def test_a_probe_of_a_port_counts_once_and_for_its_port():
    prober = Prober(["p1", "p2", "p3"], Probe(0.004, 3))
    data = seal(prober._key, 4, Frame(1, prober._boot, 5, b"p1"))
    with pytest.raises(Refused, match="another port"):
        prober._sender("p3", data)
    assert prober._sender("p1", data) == "p2"
    with pytest.raises(Refused, match="seen"):
        prober._sender("p1", data)


def test_rejected_are_told_at_most_once_a_second():
    rejected = Rejected()
    assert rejected.report(0.0) == {}
    for _ in range(1000):
        rejected.note("too short")
    rejected.note("of another key")
    assert rejected.report(1.0) == {"too short": 1000, "of another key": 1}
    rejected.note("too short")
    assert rejected.report(1.5) == {}
    assert rejected.report(2.1) == {"too short": 1}


@pytest.mark.parametrize("text", [b"", b"\n", b"zz\n", b"00\n", b"\xff" * 64 + b"\n"])
def test_a_key_that_is_none(tmp_path: Path, text):
    (tmp_path / "key").write_bytes(text)
    with (tmp_path / "key").open("rb") as file, pytest.raises(ValueError, match="hex digits"):
        read_key(file.fileno())


def test_the_key_is_read_and_not_a_byte_more():
    end, begin = os.pipe()
    os.write(begin, KEY.hex().encode() + b"\n{}")
    assert (read_key(end), os.read(end, 9)) == (KEY, b"{}")
    os.close(end)
    os.close(begin)
