"""An iSCSI-aware relay in front of a data port: `python3 -m targets.relay CONFIG.json`.

It passes all bytes on unchanged until it gets commands. Then it can do what target engines cannot:
ask for a logout, answer a login, lose, delay or corrupt PDUs. Events go to standard output, one
JSON object a line, as on the timeline. Commands come from standard input, one JSON object a line
(see control.py); the end of the input ends the relay. Standard library only: it runs in a guest.

CONFIG.json: {"name": "a1", "ports": [{"name": "p2", "listen": ["10.0.0.12:3260"],
"backend": "127.0.0.1:3261", "source": null}], "commands": [], "limits": {}}. `listen` addresses
need not exist yet, and may vanish (IP_FREEBIND). `source`: the local address that the backend sees
as the initiator's (null: the kernel's choice). The backend never sees the initiator's own address.
`commands` are carried out before the first connection. `limits`: see link.Limits.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.errors import BadInput
from lab.portal import Portal
from targets.relay.control import LINE, Control
from targets.relay.link import Limits, Link
from targets.relay.rules import Facts, Json, Rule

_IP_FREEBIND, _IPV6_FREEBIND = 15, 78  # linux/in.h, linux/in6.h; Python has no names for them


@dataclass(frozen=True)
class Port:
    """A data port: where initiators connect, and the portal behind it."""

    name: str
    listen: tuple[Portal, ...]
    backend: Portal
    source: str | None = None


@dataclass(frozen=True)
class Config:
    """The configuration of a relay."""

    name: str
    ports: tuple[Port, ...]
    commands: tuple[Json, ...] = ()
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def read(cls, raw: Json) -> Config:
        """The configuration in a JSON document; ValueError says what is wrong with it."""
        try:
            ports = tuple(
                Port(
                    str(port["name"]),
                    tuple(Portal.parse(at, any_port=True) for at in port["listen"]),
                    Portal.parse(port["backend"]),
                    port.get("source"),
                )
                for port in raw["ports"]
            )
            return cls(
                str(raw.get("name", "relay")),
                ports,
                tuple(raw.get("commands", ())),
                Limits(**raw.get("limits", {})),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the configuration lacks or misnames {error}") from error
        except BadInput as error:
            raise ValueError(str(error)) from error


class Relay:
    """Listens at the ports and keeps the connections; `report` gets each event."""

    def __init__(self, config: Config, report: Callable[[Json], None]) -> None:
        self._config, self._report = config, report
        self.limits = config.limits
        self.rules: list[Rule] = []
        self.links: dict[int, Link] = {}
        self.control = Control(self)
        self._sockets: list[socket.socket] = []
        self._last = 0

    def event(self, where: str, what: str, **details: Any) -> None:
        """Report an event at a port, or, with `where` "", of the relay as a whole."""
        place = where or self._config.name
        at = round(time.time(), 6)
        self._report({"t": at, "where": place, "kind": "relay", "what": what, **details})

    def refresh(self) -> None:
        """Let every connection see the rules as they are now."""
        self.rules[:] = [rule for rule in self.rules if rule.left != 0]
        for link in self.links.values():
            link.session.select()

    def peers(self, link: Link) -> list[Link]:
        """The connections of the same session through this relay."""
        return [x for x in self.links.values() if x.session.key == link.session.key]

    def gone(self, link: Link) -> None:
        """Forget a connection."""
        self.links.pop(link.session.facts.connection, None)

    def open(self) -> list[tuple[str, str]]:
        """Carry out the first commands and listen. Returns (port, address) of each listener.

        CommandError or OSError if that fails.
        """
        for order in self._config.commands:
            self.control.do(order)
        found = []
        for port in self._config.ports:
            for portal in port.listen:
                sock = self._listen(portal)
                asyncio.get_running_loop().add_reader(sock, self._accept, sock, port)
                found.append((port.name, str(Portal.of(sock.getsockname()))))
                self.event(port.name, "listening", address=found[-1][1])
        return found

    def _listen(self, portal: Portal) -> socket.socket:
        sock = socket.socket(portal.family, socket.SOCK_STREAM)
        self._sockets.append(sock)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        sock.bind(portal.name)
        sock.listen(128)
        return sock

    def _accept(self, sock: socket.socket, port: Port) -> None:
        try:
            client, peer = sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:  # out of descriptors: try again when some may be free
            self.event(port.name, "accept-failed", reason=str(error))
            loop = asyncio.get_running_loop()
            loop.remove_reader(sock)
            loop.call_later(0.5, lambda: loop.add_reader(sock, self._accept, sock, port))
            return
        if len(self.links) >= self.limits.connections:
            client.close()
            self.event(port.name, "accept-failed", reason="too many connections")
            return
        self._last += 1
        facts = Facts(self._last, port.name, str(Portal.of(peer)))
        try:
            self.links[self._last] = Link(self, facts, client, port.backend, port.source)
        except OSError as error:  # gone again already
            client.close()
            self.event(port.name, "accept-failed", reason=str(error))

    def close(self) -> None:
        """Stop listening and end every connection."""
        for sock in self._sockets:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        for link in list(self.links.values()):
            link.close("relay-stopped")


def _read_lines(take: Callable[[str | None], None]) -> None:
    """Give each line of standard input to `take`, then None; plain reads end with the process."""
    rest = b""
    while data := os.read(0, 65536):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line.strip():
                take(line.decode(errors="replace"))
        rest = rest[: LINE + 1]
    take(None)


async def serve(config: Config, report: Callable[[Json], None]) -> None:
    """Relay until standard input ends, or SIGTERM or SIGINT comes."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    relay = Relay(config, report)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)

    def take(line: str | None) -> None:
        if line is None:
            ended.set()
        else:
            relay.control.line(line)

    try:
        relay.open()
        reader = threading.Thread(
            target=_read_lines,
            args=(lambda line: loop.call_soon_threadsafe(take, line),),
            daemon=True,
        )
        reader.start()
        await ended.wait()
    finally:
        relay.close()


def main(argv: list[str]) -> int:
    """Run a relay; exit code 2 if the configuration cannot be used."""

    def report(event: Json) -> None:
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()

    try:
        config = Config.read(json.loads(Path(argv[1]).read_text(encoding="utf-8")))
        asyncio.run(serve(config, report))
    except BrokenPipeError:
        return 0
    except (IndexError, ValueError, OSError) as error:
        kind = "usage: python3 -m targets.relay CONFIG.json" if len(argv) != 2 else str(error)
        sys.stderr.write(kind + "\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
