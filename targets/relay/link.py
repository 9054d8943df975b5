"""One relayed connection with its two sockets, its timers and its end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from lab.portal import Portal
from targets.pdu import PduError
from targets.relay.pump import Pump
from targets.relay.rules import AsyncOrder, Facts, Rule
from targets.relay.session import Session
from targets.relay.stream import Then

LINGER_S = 1.0
"""Seconds that a peer gets to read all data before its connection is closed."""


@dataclass(frozen=True)
class Limits:
    """Bounds of one relay: times in seconds, sizes in bytes."""

    login_timeout_s: float = 30.0
    connect_timeout_s: float = 5.0
    connections: int = 256
    buffer: int = 128 * 1024
    login_text: int = 65536


class Home(Protocol):
    """The relay that a connection belongs to."""

    rules: list[Rule]
    limits: Limits

    def event(self, where: str, what: str, **details: Any) -> None:
        """Put something on record."""

    def refresh(self) -> None:
        """The rules have changed."""

    def peers(self, link: Link) -> list[Link]:
        """The connections of the same session, this one included."""

    def gone(self, link: Link) -> None:
        """The connection is closed."""


class Link:
    """An accepted connection. It connects to the backend after the first Login Request.

    The backend sees `source` as the initiator's address (None: the kernel chooses one).
    """

    def __init__(
        self,
        home: Home,
        facts: Facts,
        client: socket.socket,
        backend: Portal,
        source: str | None,
    ) -> None:
        self._home, self._client, self._address, self._source = home, client, backend, source
        self._loop = asyncio.get_running_loop()
        self._backend: socket.socket | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._task: asyncio.Task[None] | None = None
        self._closed, self._hanging = False, ""
        local = str(Portal.of(client.getsockname()))
        self.session = Session(self, facts, local, lambda: home.rules, home.limits.login_text)
        size = max(home.limits.buffer, home.limits.login_text + 4096)
        self.up = Pump(self, self.session.to_target, size)
        self.down = Pump(self, self.session.to_initiator, size)
        self.up.source = self.down.sink = client
        self._prepare(client)
        self.event("accepted", peer=facts.peer, local=local)
        self._later(home.limits.login_timeout_s, self._login_late)
        self.up.read(True)

    def _prepare(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        timer = self._loop.call_later(seconds, call)
        self._timers = [
            t for t in self._timers if not t.cancelled() and t.when() > self._loop.time()
        ]
        self._timers.append(timer)
        return timer

    def _login_late(self) -> None:
        if not self.session.full_feature:
            self.close("login-timeout", reset=True)

    async def _connect(self) -> None:
        sock = socket.socket(self._address.family, socket.SOCK_STREAM)
        try:
            self._prepare(sock)
            if self._source:
                sock.bind((self._source, 0))
            await asyncio.wait_for(
                self._loop.sock_connect(sock, self._address.name),
                self._home.limits.connect_timeout_s,
            )
        except (OSError, TimeoutError) as error:
            sock.close()
            self._task = None
            self.event("backend-unreachable", reason=str(error) or "no answer in time")
            self.close("backend-unreachable", reset=True)
            return
        except asyncio.CancelledError:
            sock.close()
            raise
        self._backend = self.up.sink = self.down.source = sock
        self.down.read(True)
        self.up.resume()

    # What the pumps report.

    def stopped(self, pump: Pump, then: Then) -> None:
        """See Watcher."""
        if self._hanging:
            self._wind_down()
        elif then is Then.CONNECT:
            self._task = self._loop.create_task(self._connect())
        elif then is Then.ANSWER and pump is self.up:
            self.down.put(self.session.answer)
        elif then is Then.ANSWER:
            self.hang_up("login-answered")
        elif then is Then.CLOSE:
            self.hang_up("closed-by-rule")
        elif then is Then.RESET:
            self.close("reset-by-rule", reset=True)

    def ended(self, pump: Pump) -> None:
        """See Watcher: pass a half-close on; the second one ends the connection."""
        if pump.sink is None:
            self.close("initiator-left")
            return
        with contextlib.suppress(OSError):
            pump.sink.shutdown(socket.SHUT_WR)
        if self.up.finished and self.down.finished:
            self.close("ended")

    def broken(self, pump: Pump, error: OSError, sending: bool) -> None:
        """See Watcher: pass a reset on; after a failed send, wait until a read shows the end."""
        other = self.down if pump is self.up else self.up
        if not sending or other.finished or other.source is None:
            reason = error.strerror or str(error)
            side = (pump is self.up) != sending
            self.close(f"{'initiator' if side else 'target'}: {reason}", reset=True)
        else:
            self._later(LINGER_S, lambda: self.close("send-failed", reset=True))

    def bad(self, pump: Pump, error: Exception) -> None:
        """See Watcher."""
        if isinstance(error, PduError):
            self.event("bad-pdu", direction=pump.stream.direction.value, reason=str(error))
        else:
            self.event("internal-error", reason="".join(traceback.format_exception(error)))
        self.close("bad-pdu", reset=True)

    # What the session reports.

    def event(self, what: str, **details: Any) -> None:
        """See Owner; every event names the connection."""
        facts = self.session.facts
        named = {"initiator": facts.initiator} if facts.initiator else {}
        self._home.event(facts.port, what, connection=facts.connection, **named, **details)

    def rule_spent(self, rule: Rule) -> None:
        """See Owner."""
        self._home.refresh()

    def logging_out(self) -> None:
        """See Owner: the request has been heard."""
        if self._grace:
            self._grace.cancel()
            self._grace = None

    def sent(self, order: AsyncOrder, cid: int) -> None:
        """See Owner: begin the grace time, and drop announced connections in time."""
        if order.grace_s is not None:
            if self._grace:
                self._grace.cancel()
            self._grace = self._later(order.grace_s, lambda: self.hang_up("logout-ignored"))
        if order.drop_after_s is not None:
            named = cid if order.parameters[0] is None else order.parameters[0]
            for link in self._home.peers(self):
                if order.event != 2 or link.session.cid == named:
                    link._drop_later(order.drop_after_s)

    def _drop_later(self, seconds: float) -> None:
        self._later(seconds, lambda: self.hang_up("drop-announced"))

    # Its end.

    @property
    def ending(self) -> bool:
        """Whether it is closed, or only waits for the initiator to read the rest."""
        return bool(self._hanging) or self._closed

    def ask(self, order: AsyncOrder) -> bool:
        """Send an Async Message between the next two PDUs; False before the login is complete."""
        if not self.session.full_feature or self.ending:
            return False
        self.session.to_initiator.orders.append(order)
        self.down.poke()
        return True

    def hang_up(self, reason: str) -> None:
        """End the connection after both sides got all data that was sent to them."""
        if self.ending:
            return
        self._hanging = reason
        self.event("dropped", reason=reason)
        self.up.close()
        self._later(LINGER_S, lambda: self.close(reason))
        if self.down.idle:
            self._wind_down()
        else:
            self.down.read(False)
            self.down.stream.then = Then.CLOSE

    def _wind_down(self) -> None:
        self.down.close()
        for sock in (self._client, self._backend):
            if sock:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_WR)
        self._loop.add_reader(self._client, self._discard)

    def _discard(self) -> None:
        """Read what the initiator still sends: unread bytes would turn the close into a reset."""
        try:
            more = self._client.recv(65536)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            more = b""
        if not more:
            self.close(self._hanging)

    def close(self, reason: str, reset: bool = False) -> None:
        """End the connection now, with RST on both sides if `reset`; twice does no harm."""
        if self._closed:
            return
        self._closed = True
        self.up.close()
        self.down.close()
        for timer in self._timers:
            timer.cancel()
        if self._task:
            self._task.cancel()
        self._loop.remove_reader(self._client)
        for sock in (self._client, self._backend):
            if sock:
                if reset:
                    with contextlib.suppress(OSError):
                        sock.setsockopt(
                            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                        )
                sock.close()
        unsent = len(self.session.to_initiator.orders)
        self.event(
            "closed",
            reason=reason,
            bytes_to_target=self.up.bytes,
            bytes_to_initiator=self.down.bytes,
            **({"async_unsent": unsent} if unsent else {}),
        )
        self._home.gone(self)
