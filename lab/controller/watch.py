"""The kernel's view of the array's ports: links and address owners."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass, field

from lab.controller import netlink
from lab.controller.config import Config
from lab.controller.model import FOREIGN
from lab.controller.netlink import Link, Message, OnLink


@dataclass
class Changes:
    """What changed in the kernel since the last look.

    `links`: ports whose link went up or down. `up`: ports set administratively up, which makes
    the kernel forget their routes before; where it cannot be known, all that may have been.
    `gained`: (address, owner) that are new.
    """

    links: set[str] = field(default_factory=set)
    up: set[str] = field(default_factory=set)
    gained: list[tuple[str, str]] = field(default_factory=list)
    addresses: bool = False

    def __bool__(self) -> bool:
        return bool(self.links or self.addresses)


class Watch:
    """The state of links and addresses, kept up to date by netlink events.

    An owner is named by its port or, if it is no port of the array, "interface NAME".
    """

    def __init__(self, config: Config) -> None:
        self._ports = {interface: port for port, interface in config.interfaces.items()}
        self._ours = frozenset(config.places)
        self._links: dict[int, Link] = {}
        self._owners: dict[str, dict[int, int]] = {address: {} for address in config.places}
        self._socket = netlink.events()
        self.resync()

    def fileno(self) -> int:
        """The netlink socket's descriptor, for a selector."""
        return self._socket.fileno()

    def update(self) -> Changes:
        """Take in the events that are waiting."""
        told, lost = self._waiting()
        # The kernel dropped events: what is known is worth nothing until it is asked anew. None of
        # `told` counts: what differs from before is to come out as a change.
        return self.resync(lost=True) if lost else self._apply(told, Changes())

    def resync(self, *, lost: bool = False) -> Changes:
        """Ask the kernel for everything; what differs from what was known is a change.

        `lost`: the kernel has dropped events, so that a port may have been down meanwhile.
        """
        owners = self.owners()
        links = {port: self.port(port) for port in self._ports.values()}
        passing = Changes()
        while True:
            # What waits is older than the answer, so it must not be applied after it. The queue
            # must be empty before: until then, a kernel that dropped one event drops all.
            told, dropped = self._waiting()
            self._apply(told, passing)
            lost |= dropped
            found = netlink.dump()
            # What is told from the first question on may be in the answer or not. Applied after
            # it, all of it at once, it leads to what is.
            later, dropped = self._waiting()
            if not dropped:
                break
            lost = True
        self._links = {}
        self._owners = {address: {} for address in self._ours}
        self._apply(found, Changes())
        self._apply(later, passing)
        for port, old in links.items():
            new = self.port(port)
            if new != old:
                passing.links.add(port)
            if new and new.up and (lost or not (old and old.up)):
                passing.up.add(port)
        now = self.owners()
        passing.gained = [(a, o) for a, here in now.items() for o in here - owners[a]]
        passing.addresses = now != owners
        return passing

    def _waiting(self) -> tuple[list[Message], bool]:
        """The events that are waiting, and whether the kernel dropped some."""
        told, lost = list[Message](), False
        while True:
            try:
                told.extend(netlink.read(self._socket))
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True
            else:
                return told, lost

    def _apply(self, messages: Iterable[Message], changes: Changes) -> Changes:
        """Take in `messages`; what changed is added to `changes`."""
        for message in messages:
            if isinstance(message, Link):
                self._link(message, changes)
            elif message.address in self._ours:
                self._address(message, changes)
        return changes

    def _link(self, link: Link, changes: Changes) -> None:
        old = self._links.get(link.index)
        if link.gone:
            self._links.pop(link.index, None)
            for owners in self._owners.values():
                changes.addresses |= owners.pop(link.index, None) is not None
        else:
            self._links[link.index] = link
        port = self._ports.get(link.name)
        if port is None:
            return
        if link.live != bool(old and old.live) or (old is None and not link.gone):
            changes.links.add(port)
        if link.up and not (old and old.up):
            changes.up.add(port)

    def _address(self, found: OnLink, changes: Changes) -> None:
        owners = self._owners[found.address]
        if found.gone:
            changes.addresses |= owners.pop(found.index, None) is not None
        elif found.index not in owners:
            owners[found.index] = found.prefix
            changes.addresses = True
            changes.gained.append((found.address, self._owner(found.index)))

    def _owner(self, index: int) -> str:
        link = self._links.get(index)
        name = link.name if link else f"#{index}"
        return self._ports.get(name) or FOREIGN + name

    def links(self) -> dict[str, bool]:
        """Port -> whether it is administratively up and has carrier."""
        live = {link.name: link.live for link in self._links.values()}
        return {port: live.get(interface, False) for interface, port in self._ports.items()}

    def owners(self) -> dict[str, frozenset[str]]:
        """The owners of each address of the array."""
        return {
            address: frozenset(self._owner(index) for index in owners)
            for address, owners in self._owners.items()
        }

    def prefix(self, address: str, owner: str) -> int | None:
        """The kernel's prefix length for `address` at `owner`; None if it is not there."""
        for index, prefix in self._owners[address].items():
            if self._owner(index) == owner:
                return prefix
        return None

    def port(self, name: str) -> Link | None:
        """The interface of a port; None if it does not exist."""
        return next((k for k in self._links.values() if self._ports.get(k.name) == name), None)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
