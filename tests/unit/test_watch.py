"""What the controller knows of links and addresses, however much the kernel has to drop."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.controller import config, netlink
from lab.controller.netlink import Link, Message, OnLink
from lab.controller.watch import Watch

PORTS = {f"p{i}": f"a1-p{i}" for i in (1, 2, 3)}
ADDRESSES = ("10.0.0.1", "10.0.0.11", "fd00::1")
CONFIG = config.parse(
    {
        "array": "a1",
        "ports": [{"name": name, "interface": there} for name, there in PORTS.items()],
        "addresses": [{"address": f"{a}/24", "home": "p1"} for a in ADDRESSES],
    }
)
NAMES = [*PORTS.values(), "eth9"]


def attribute(kind: int, data: bytes) -> bytes:
    size = 4 + len(data)
    return struct.pack("=HH", size, kind) + data + bytes(-size % 4)


def wire(message: Message) -> bytes:
    """The notification, as rtnetlink(7) spells it."""
    if isinstance(message, Link):
        kind = netlink.RTM_DELLINK if message.gone else netlink.RTM_NEWLINK
        flags = message.up * netlink.IFF_UP | message.live * netlink.IFF_LOWER_UP
        body = struct.pack("=BxHiII", 0, 1, message.index, flags, 0)
        body += attribute(1, message.mac) + attribute(3, message.name.encode() + b"\0")
    else:
        kind = netlink.RTM_DELADDR if message.gone else netlink.RTM_NEWADDR
        family = socket.AF_INET6 if ":" in message.address else socket.AF_INET
        body = struct.pack("=BBBBI", family, message.prefix, 0, 0, message.index)
        body += attribute(2, socket.inet_pton(family, message.address))
    return netlink.HEADER.pack(netlink.HEADER.size + len(body), kind, 0, 0, 0) + body


@dataclass
class Kernel:
    """Links, addresses, and one listener's queue, as net/netlink/af_netlink.c keeps it: what finds
    no room is dropped, and so is all that follows until the queue has been read to its end; the
    listener is told once, before what is still in the queue."""

    links: dict[int, Link] = field(default_factory=dict)
    owners: set[tuple[int, str]] = field(default_factory=set)
    queue: deque[bytes] = field(default_factory=deque)
    congested: bool = False
    told: bool = True
    meanwhile: list[tuple] = field(default_factory=list)
    made: int = 0

    def fileno(self) -> int:
        return -1

    def recv(self, _size: int) -> bytes:
        if not self.told:
            self.told = True
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        if not self.queue:
            raise BlockingIOError
        data = self.queue.popleft()
        self.congested &= bool(self.queue)
        return data

    def overrun(self) -> None:
        if self.queue and not self.congested:
            self.congested, self.told = True, False

    def tell(self, message: Message) -> None:
        if not self.congested:
            self.queue.append(wire(message))

    def dump(self) -> list[Message]:
        """The answer; some of what is to happen `meanwhile` happens before each part of it."""
        self.happens()
        found: list[Message] = list(self.links.values())
        self.happens()
        found += [OnLink(index, address, 24) for index, address in self.owners]
        self.happens()
        return [m for m in found if isinstance(m, Link) or m.index in self.links]

    def happens(self) -> None:
        for _ in range(min(4, len(self.meanwhile))):
            self.do(*self.meanwhile.pop(0))

    def do(self, what: str, at: int = 0, which: int = 0) -> None:
        """One change, or an overrun; nothing where it is not possible now."""
        name, address = NAMES[at], ADDRESSES[which]
        link = next((k for k in self.links.values() if k.name == name), None)
        if what == "overrun":
            self.overrun()
        elif what == "make" and link is None:
            self.made += 1
            self.change(Link(self.made, name, bytes([2, 0, 0, 0, 0, self.made % 256]), True, True))
        elif link is None:
            return
        elif what == "end":
            for owned in sorted(o for o in self.owners if o[0] == link.index):
                self.owners.discard(owned)
                self.tell(OnLink(*owned, 24, gone=True))
            del self.links[link.index]
            self.tell(Link(link.index, name, link.mac, False, False, gone=True))
        elif what in ("up", "down", "carrier", "no carrier"):
            up = what != "down" and (link.up or what == "up")
            live = up and what in ("up", "carrier")
            if (up, live) != (link.up, link.live):
                self.change(Link(link.index, name, link.mac, up, live))
        elif what == "add" and (link.index, address) not in self.owners:
            self.owners.add((link.index, address))
            self.tell(OnLink(link.index, address, 24))
        elif what == "del" and (link.index, address) in self.owners:
            self.owners.discard((link.index, address))
            self.tell(OnLink(link.index, address, 24, gone=True))

    def change(self, link: Link) -> None:
        self.links[link.index] = link
        self.tell(link)

    def owned(self) -> dict[str, frozenset[str]]:
        port = {there: name for name, there in PORTS.items()}
        named = {k.index: port.get(k.name, f"interface {k.name}") for k in self.links.values()}
        return {a: frozenset(named[i] for i, b in self.owners if b == a) for a in ADDRESSES}

    def live(self) -> dict[str, bool]:
        live = {link.name: link.live for link in self.links.values()}
        return {name: live.get(there, False) for name, there in PORTS.items()}


@pytest.fixture
def kernel(monkeypatch):
    return of(monkeypatch)


def of(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr(netlink, "events", lambda: kernel)
    monkeypatch.setattr(netlink, "dump", kernel.dump)
    for at in range(len(NAMES)):
        kernel.do("make", at)
    kernel.do("add", 0, 0)
    kernel.queue.clear()
    return kernel


def test_what_was_told_before_an_answer_is_not_applied_after_it(kernel):
    """The address moved from p1 to p3 by p2; the way there was lost, the end was not."""
    watch = Watch(CONFIG)
    kernel.do("add", 1, 0)
    kernel.do("overrun")
    for what, at in (("del", 0), ("del", 1), ("add", 2)):
        kernel.do(what, at, 0)
    changes = watch.update()
    assert watch.owners()["10.0.0.1"] == {"p3"}
    assert changes.addresses
    assert changes.gained == [("10.0.0.1", "p3")]
    assert not watch.update()


def test_an_overrun_in_the_midst_of_reading_loses_no_change(kernel, monkeypatch):
    """The carrier is lost, that is read, and then comes the overrun: the planner must hear."""
    watch = Watch(CONFIG)
    kernel.do("no carrier", 0)
    recv = kernel.recv

    def then_overrun(size):
        data = recv(size)
        kernel.do("add", 1, 1)
        kernel.do("overrun")
        monkeypatch.setattr(kernel, "recv", recv)
        return data

    monkeypatch.setattr(kernel, "recv", then_overrun)
    changes = watch.update()
    assert changes
    assert changes.links == {"p1"}
    assert not watch.links()["p1"]
    assert changes.gained == [("10.0.0.11", "p2")]


def test_a_port_that_may_have_been_down_meanwhile_has_lost_its_routes(kernel):
    watch = Watch(CONFIG)
    kernel.do("add", 1, 1)
    kernel.do("overrun")
    kernel.do("down", 0)
    kernel.do("up", 0)
    assert watch.update().up == {"p1", "p2", "p3"}


def test_without_an_overrun_only_what_went_down_has(kernel):
    watch = Watch(CONFIG)
    kernel.do("down", 1)
    kernel.do("up", 1)
    assert watch.resync().up == {"p2"}


def test_what_happens_during_the_answer_counts_once(kernel):
    watch = Watch(CONFIG)
    moves = [("del", 0, 0), ("add", 1, 0), ("del", 1, 0), ("add", 2, 0), ("add", 0, 1)]
    kernel.meanwhile = [*moves, ("del", 0, 1), ("add", 1, 1)]
    changes = watch.resync()
    assert watch.owners() == kernel.owned()
    assert sorted(changes.gained) == [("10.0.0.1", "p3"), ("10.0.0.11", "p2")]


CHANGES = st.tuples(
    st.sampled_from(
        ("make", "end", "up", "down", "carrier", "no carrier", *["add", "del", "overrun"] * 3)
    ),
    st.integers(0, len(NAMES) - 1),
    st.integers(0, len(ADDRESSES) - 1),
)
STEPS = st.lists(
    st.one_of(CHANGES, st.just(("look",)), st.tuples(st.just("ask"), st.lists(CHANGES))),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_in_the_end_it_knows_what_is_and_has_told_every_difference(steps):
    with pytest.MonkeyPatch.context() as patch:
        kernel = of(patch)
        watch = Watch(CONFIG)

        def look(resync=False):
            links, owners = watch.links(), watch.owners()
            changes = watch.resync() if resync else watch.update()
            differ = {name for name, live in watch.links().items() if live != links[name]}
            assert differ <= changes.links
            gained = {(a, o) for a, now in watch.owners().items() for o in now - owners[a]}
            assert gained <= set(changes.gained)
            if watch.owners() != owners:
                assert changes.addresses
            assert bool(changes) or not (differ or watch.owners() != owners)

        for what, *how in steps:
            if what == "look":
                look()
            elif what == "ask":
                kernel.meanwhile += how[0]
                look(resync=True)
            else:
                kernel.do(what, *how)
        look()
        while kernel.meanwhile:  # an overrun asks too
            kernel.happens()
        look()
        look()
        assert watch.owners() == kernel.owned()
        assert watch.links() == kernel.live()
