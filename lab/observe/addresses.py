"""A watcher of the addresses that a kernel has up, by that kernel's notifications alone."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink import NLM_F_DUMP_INTR
from pyroute2.netlink.rtnl import RTM_DELADDR, RTM_NEWADDR
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from lab.errors import LabError, Missing
from lab.evidence import Evidence
from lab.sandbox import set_network_namespace
from lab.timeline import Event, Timeline

# linux/rtnetlink.h, linux/if_addr.h: the numbers of the kernel's interface.
GROUPS = 0x10 | 0x100  # RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
IFA_F_DADFAILED = 0x08
SO_RCVBUFFORCE = 33

BUFFER = 4 << 20
"""Bytes of notifications that may wait to be read."""
READY_S, STOP_S = 10.0, 5.0
"""How long the watcher may take to begin, and to read the rest."""
DUMPS = 50


class AddressWatcher:
    """While entered, each address that comes up or goes down becomes an `address` event.

    Watches the network namespace of process `pid` (None: the caller's). `names` maps interfaces to
    the `where` of events ("a1-p1" -> "p1"); other interfaces keep their name. Loopback and
    link-local addresses are left out. The addresses that are up at the start come first. If the
    kernel dropped notifications, the evidence of `where` has a gap and the missed changes follow
    late. Times are of receipt, in Unix seconds, and never go back. Raises Missing if the namespace
    cannot be entered.
    """

    def __init__(
        self,
        timeline: Timeline,
        pid: int | None = None,
        names: Mapping[str, str] | None = None,
        *,
        where: str = "array",
    ) -> None:
        self._timeline, self._pid = timeline, pid
        self._evidence = Evidence(timeline, where, "addresses")
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
        if not self._ready.wait(READY_S):
            self._close()
            raise LabError(f"the watcher of addresses did not begin within {READY_S:g} s")
        if self._error:
            self._close()
            if isinstance(self._error, LabError):
                raise self._error
            raise LabError(f"the watcher of addresses did not begin: {self._error}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, once everything that the kernel has said so far is on the timeline."""
        if not self._close():
            late = f"did not read to the end within {STOP_S:g} s"
            self._evidence.broke(late)
            if error is None:
                raise LabError(f"the watcher of addresses {late}")
        if self._error and error is None:
            raise LabError(f"the address watcher broke: {self._error}") from self._error
        self._evidence.end()

    def _close(self) -> bool:
        """Ask the thread to end; whether it did."""
        os.close(self._stopped)
        self._thread.join(STOP_S)
        if self._thread.is_alive():
            return False  # it may still use the other end
        os.close(self._wake)
        return True

    def _run(self) -> None:
        try:
            self._enter_namespace()
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
                sock.bind((0, GROUPS))  # before the dump, so that no change falls between the two
                self._catch_up(sock)
                self._evidence.begin()
                self._ready.set()
                self._watch(sock)
        except Exception as broken:
            self._error = broken
            self._evidence.broke(str(broken))
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
            since = self._last  # what was told until then came in order
            self._catch_up(sock)
            self._evidence.gap("netlink overflow", since=since, t=self._now())
            return
        t = self._now()
        for message in _parse(data):
            self._note(t, message)

    def _catch_up(self, sock: socket.socket) -> None:
        """Bring what is known in line with the kernel's present state.

        What waits in the queue has holes, and would tell of owners that never were: it is thrown
        away, then the kernel is asked. What it tells from then on may be in the answer or not, so
        that both count together: only what differs in the end is told.
        """
        while True:
            self._waiting(sock)
            found = self._dump()
            later, lost = self._waiting(sock)
            if not lost:
                break
        up: dict[tuple[int, str], str] = {}
        for message in [*found, *later]:
            key, there = _says(message)
            if not there:
                up.pop(key, None)
            elif key not in up:
                up[key] = self._up.get(key) or self._name(key[0], message)
        t = self._now()
        for key in list(self._up.keys() - up.keys()):  # first, for none may seem to have two owners
            self._change(t, key, self._up[key], "del")
        for key in up.keys() - self._up.keys():
            self._change(t, key, up[key], "add")

    def _waiting(self, sock: socket.socket) -> tuple[list[Any], bool]:
        """What waits in the queue, to its end, and whether the kernel had to drop some."""
        found, lost = list[Any](), False
        while True:
            try:
                found += _parse(sock.recv(1 << 20, socket.MSG_DONTWAIT))
            except BlockingIOError:
                return found, lost
            except OSError as dropped:
                if dropped.errno != errno.ENOBUFS:
                    raise
                lost = True

    def _dump(self) -> list[Any]:
        """All addresses, asked on a socket of its own: answers and notifications do not mix."""
        with IPRoute() as route:
            for _ in range(DUMPS):
                found = list(route.get_addr())
                # An answer that a change interrupted may lack what was there all the time.
                if not any(message["header"]["flags"] & NLM_F_DUMP_INTR for message in found):
                    return _addresses(found)
        raise LabError(f"the addresses changed during each of {DUMPS} times that they were listed")

    def _note(self, t: float, message: Any) -> None:
        key, there = _says(message)
        if there and key not in self._up:  # the kernel repeats itself, on a change of flags
            self._change(t, key, self._name(key[0], message), "add")
        elif not there and key in self._up:
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
    return _addresses(MarshalRtnl().parse(data))


def _addresses(messages: Iterable[Any]) -> list[Any]:
    """Those of `messages` that are of addresses an observer tells of."""
    return [
        m
        for m in messages
        if m["header"]["type"] in (RTM_NEWADDR, RTM_DELADDR) and not is_local(_key(m)[1])
    ]


def _key(message: Any) -> tuple[int, str]:
    address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    return int(message["index"]), str(address)


def _says(message: Any) -> tuple[tuple[int, str], bool]:
    """Which address of which interface it is about, and whether that is up."""
    failed = int(message.get_attr("IFA_FLAGS") or message["flags"]) & IFA_F_DADFAILED
    return _key(message), message["header"]["type"] == RTM_NEWADDR and not failed


def is_local(address: str) -> bool:
    """Whether it is a loopback or link-local address, which observers leave out."""
    return address.startswith(("127.", "169.254.", "fe80:")) or address == "::1"
