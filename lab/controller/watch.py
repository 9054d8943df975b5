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

    `links`: ports whose link went up or down. `up`: ports set administratively up, so their routes
    must be added again. `gained`: (address, owner) that are new.
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
        """Read the events that wait, and return the changes."""
        try:
            return self._apply(netlink.read(self._socket))
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            # The kernel dropped events: our state is unreliable until we ask for all of it.
            return self.resync()

    def resync(self) -> Changes:
        """Ask the kernel for the whole state, and return the changes."""
        before = self.links(), self.owners()
        up = {link.name for link in self._links.values() if link.up}
        found = netlink.dump()
        self._links = {}
        self._owners = {address: {} for address in self._ours}
        changes = self._apply(found)
        changes.up -= {port for interface, port in self._ports.items() if interface in up}
        changes.links = {n for n, live in self.links().items() if live != before[0].get(n)}
        changes.gained = [
            (address, owner)
            for address, owners in self.owners().items()
            for owner in owners - before[1].get(address, frozenset())
        ]
        changes.addresses = self.owners() != before[1]
        return changes

    def _apply(self, messages: Iterable[Message]) -> Changes:
        changes = Changes()
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
