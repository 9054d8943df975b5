"""Moves the bytes of one direction of a relayed connection between two sockets."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import Protocol

from targets.relay.stream import Stream, Then


class Watcher(Protocol):
    """The connection that a pump belongs to."""

    def stopped(self, pump: Pump, then: Then) -> None:
        """All is sent, and the stream asks for `then` instead of more bytes."""

    def ended(self, pump: Pump) -> None:
        """The source has ended, and all its bytes are sent."""

    def broken(self, pump: Pump, error: OSError, sending: bool) -> None:
        """A socket failed."""

    def bad(self, pump: Pump, error: Exception) -> None:
        """The bytes are invalid, or the relay itself failed."""


class Pump:
    """One direction: one buffer of `size` bytes, and no more memory than that.

    It reads only after all that it read is sent, so a slow receiver slows the sender (TCP flow
    control) and needs no more memory. It uses `add_reader` and `add_writer` of the event loop: a
    transport would copy what it cannot send at once.
    """

    def __init__(self, watcher: Watcher, stream: Stream, size: int) -> None:
        self.stream = stream
        self.source: socket.socket | None = None
        self.sink: socket.socket | None = None
        self.finished = False
        self.bytes = 0
        self._watcher = watcher
        self._loop = asyncio.get_running_loop()
        self._view = memoryview(bytearray(size))
        self._held = self._used = 0
        self._pending: deque[memoryview | bytes] = deque()
        self._reading = self._writing = self._eof = self._stopped = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self._pending

    def read(self, wanted: bool) -> None:
        """Listen to the source, or stop listening."""
        wanted = wanted and not self.finished and not self._eof and self.source is not None
        if wanted != self._reading and self.source is not None:
            self._reading = wanted
            if wanted:
                self._loop.add_reader(self.source, self._readable)
            else:
                self._loop.remove_reader(self.source)

    def resume(self) -> None:
        """Go on after a stop or a pause, with what is in the buffer."""
        self._stopped, self._timer = False, None
        self.poke()

    def poke(self) -> None:
        """Walk the stream again: it may have a message to insert."""
        if not (self._pending or self._stopped or self._timer or self.finished):
            self._walk()

    def put(self, data: bytes) -> None:
        """Send `data` instead of bytes from the source; `stopped` follows when it is sent."""
        self.stream.then = Then.ANSWER
        self._send([data])

    def close(self) -> None:
        """Stop using the sockets; they stay open."""
        self.read(False)
        self.finished = True
        if self._writing and self.sink is not None:
            self._loop.remove_writer(self.sink)
        if self._timer:
            self._timer.cancel()
        self._writing, self._timer = False, None
        self._pending.clear()

    def _readable(self) -> None:
        assert self.source is not None
        try:
            count = self.source.recv_into(self._view[self._held :])
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.close()
            self._watcher.broken(self, error, False)
            return
        if count:
            self.bytes += count
            self._held += count
            self._walk()
            return
        self.read(False)
        self._eof = True
        # Pass an incomplete PDU on as it is.
        self._used = self._held
        self.stream.then, self.stream.pause = Then.GO, 0.0
        self._send([self._view[: self._held]] if self._held else [])

    def _walk(self) -> None:
        if self._eof:
            return
        try:
            self._used = self.stream.walk(self._view, self._held)
        except Exception as error:  # a bug of ours must end this connection only
            self.close()
            self._watcher.bad(self, error)
            return
        self._send(self.stream.out)

    def _send(self, pieces: list[memoryview | bytes]) -> None:
        if len(pieces) == 1:  # nearly always
            piece = pieces[0]
            sent = self._try(piece)
            if sent < len(piece):
                self._pending.append(piece[sent:])
        else:
            self._pending.extend(pieces)
            self._drain()
        self._settle()

    def _try(self, piece: memoryview | bytes) -> int:
        """Send what is possible; an error counts as sent and ends the pump."""
        if self.sink is None:
            return len(piece)
        try:
            return self.sink.send(piece)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self.close()
            self._watcher.broken(self, error, True)
            return len(piece)

    def _drain(self) -> None:
        while self._pending:
            piece = self._pending[0]
            sent = self._try(piece)
            if self.finished:
                return
            if sent < len(piece):
                self._pending[0] = piece[sent:]
                return
            self._pending.popleft()

    def _writable(self) -> None:
        self._drain()
        self._settle()

    def _settle(self) -> None:
        """Decide what comes next, once something was sent."""
        if self.finished:
            return
        blocked = bool(self._pending)
        if blocked != self._writing and self.sink is not None:
            self._writing = blocked
            if blocked:
                self._loop.add_writer(self.sink, self._writable)
            else:
                self._loop.remove_writer(self.sink)
        if blocked:
            self.read(False)
            return
        rest = self._held - self._used
        if rest and self._used:
            self._view[:rest] = self._view[self._used : self._held]
        self._held, self._used = rest, 0
        if self._eof:
            self.close()
            self._watcher.ended(self)
        elif self.stream.then is not Then.GO:
            self._stopped = True
            self.read(False)
            self._watcher.stopped(self, self.stream.then)
        elif self.stream.pause:
            self.read(False)
            self._timer = self._loop.call_later(self.stream.pause, self.resume)
        else:
            self.read(True)
            if self.stream.orders and self.stream.between:
                self._loop.call_soon(self.poke)
