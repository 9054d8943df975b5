"""A watcher of the addresses that a kernel has up, by that kernel's notifications alone."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.rtnl import RTM_DELADDR, RTM_NEWADDR
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from lab.errors import LabError, Missing
from lab.sandbox import set_network_namespace
from lab.timeline import Event, Timeline

# linux/rtnetlink.h, linux/if_addr.h: the numbers of the kernel's interface.
GROUPS = 0x10 | 0x100  # RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
IFA_F_DADFAILED = 0x08
SO_RCVBUFFORCE = 33

BUFFER = 4 << 20
"""The size in bytes of the queue for unread notifications."""


class AddressWatcher:
    """While entered, each address that comes up or goes down becomes an `address` event.

    Watches the network namespace of process `pid` (None: the caller's). `names` maps interfaces to
    the `where` of events ("a1-p1" -> "p1"); other interfaces keep their name. Loopback and
    link-local addresses are left out. The addresses that are up at the start come first. If the
    kernel dropped notifications, a `watch-gap` event is added and the missed changes follow late.
    Times are of receipt, in Unix seconds, and never go back. Raises Missing if the namespace cannot
    be entered.
    """

    def __init__(
        self, timeline: Timeline, pid: int | None = None, names: Mapping[str, str] | None = None
    ) -> None:
        self._timeline, self._pid = timeline, pid
        self._names = dict(names or {})
        self._up: dict[tuple[int, str], str] = {}
        self._last = 0.0
        self._wake, self._stopped = os.pipe()
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="address-watcher", daemon=True)

    def __enter__(self) -> AddressWatcher:
        """Start watching; on return the present addresses are on the timeline."""
        self._thread.start()
        self._ready.wait(10.0)
        if self._error:
            self._close()
            raise self._error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop after all pending notifications are on the timeline."""
        self._close()
        if self._error and error is None:
            raise LabError(f"the address watcher broke: {self._error}") from self._error

    def _close(self) -> None:
        os.close(self._stopped)
        self._thread.join(5.0)
        os.close(self._wake)

    def _run(self) -> None:
        try:
            self._enter_namespace()
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
                sock.bind((0, GROUPS))  # before the dump, so that no change falls between the two
                self._dump()
                self._ready.set()
                self._watch(sock)
        except Exception as broken:
            self._error = broken
            if self._ready.is_set():
                self._timeline.add("array", "watch-gap", what=f"address watcher broke: {broken}")
        finally:
            self._ready.set()

    def _enter_namespace(self) -> None:
        """Move this thread only to the namespace; it stays there until it ends."""
        if self._pid is None:
            return
        try:
            set_network_namespace(self._pid)
        except OSError as refused:
            raise Missing(
                f"cannot watch the network namespace of process {self._pid}: {refused}; "
                "run the lab as root or where user namespaces are allowed"
            ) from refused

    def _watch(self, sock: socket.socket) -> None:
        while True:
            readable, _, _ = select.select([sock.fileno(), self._wake], [], [])
            if sock.fileno() in readable:
                self._receive(sock)
            elif readable:  # told to stop, and nothing is left to read
                return

    def _receive(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(1 << 20)
        except OSError as lost:
            if lost.errno != errno.ENOBUFS:
                raise
            self._timeline.add("array", "watch-gap", t=self._now(), what="netlink overflow")
            self._catch_up(sock)
            return
        t = self._now()
        for message in _parse(data):
            self._note(t, message)

    def _catch_up(self, sock: socket.socket) -> None:
        """After an overflow: read the rest of the queue, then the kernel's present state."""
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    data = sock.recv(1 << 20, socket.MSG_DONTWAIT)
                except OSError as lost:
                    if lost.errno == errno.ENOBUFS:
                        continue
                    raise
                t = self._now()
                for message in _parse(data):
                    self._note(t, message)
        self._dump()

    def _dump(self) -> None:
        """Ask for all addresses, and update our state to the answer.

        Uses its own socket, so that answers and notifications do not mix. Notifications older than
        the answer may be read after it; the last one of each address still gives the same state.
        """
        listed = set()
        with IPRoute() as route:
            for message in route.get_addr():
                listed.add(_key(message))
                self._note(self._now(), message)
        for key in list(self._up.keys() - listed):
            self._change(self._now(), key, self._up[key], "del")

    def _note(self, t: float, message: Any) -> None:
        kind = message["header"]["type"]
        if kind not in (RTM_NEWADDR, RTM_DELADDR):
            return
        key = _key(message)
        if is_local(key[1]):
            return
        failed = int(message.get_attr("IFA_FLAGS") or message["flags"]) & IFA_F_DADFAILED
        if kind == RTM_NEWADDR and not failed:
            if key not in self._up:  # the kernel notifies again of a change of lifetime or flags
                self._change(t, key, self._name(key[0], message), "add")
        elif key in self._up:
            self._change(t, key, self._up[key], "del")

    def _change(self, t: float, key: tuple[int, str], where: str, op: str) -> None:
        if op == "add":
            self._up[key] = where
        else:
            del self._up[key]
        event: Event = {"t": t, "where": where, "kind": "address", "address": key[1], "op": op}
        self._timeline.extend([{**event, "source": "kernel"}])

    def _name(self, index: int, message: Any) -> str:
        try:
            name = socket.if_indextoname(index)  # in this thread's namespace
        except OSError:
            name = str(message.get_attr("IFA_LABEL") or index)
        return self._names.get(name, name)

    def _now(self) -> float:
        self._last = max(self._last, round(time.time(), 6))
        return self._last


def _parse(data: bytes) -> list[Any]:
    return list(MarshalRtnl().parse(data))


def _key(message: Any) -> tuple[int, str]:
    address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    return int(message["index"]), str(address)


def is_local(address: str) -> bool:
    """Whether it is a loopback or link-local address, which observers leave out."""
    return address.startswith(("127.", "169.254.", "fe80:")) or address == "::1"
