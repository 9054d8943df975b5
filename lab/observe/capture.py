"""Recording the frames at the switch's ports."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from lab.errors import LabError, Missing
from lab.evidence import Evidence
from lab.observe.bpf import compiled, control_filter
from lab.timeline import Timeline

SNAPLEN = 65535
FULL_SNAPLEN = 1024
"""Enough for the text of a login that skips the security stage, which is one long segment."""
LARGEST = 200_000_000
STOP_S = 10.0

# linux/if_packet.h, linux/if_ether.h, asm-generic/socket.h
ETH_P_ALL, SOL_PACKET, PACKET_STATISTICS = 0x0003, 263, 6
SO_ATTACH_FILTER, SO_TIMESTAMPNS, SO_RCVBUFFORCE = 26, 35, 33
PCAP_NANOSECONDS = struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, SNAPLEN, 1)
"""The header of a pcap file of Ethernet frames with nanoseconds (pcap-savefile(5))."""


class Capture:
    """While entered, records `interfaces` (name of the place -> interface) to pcap files.

    One file a place, `<directory>/<where>.pcap`: the control traffic in full, or, with `full`,
    everything, cut to 1024 bytes a frame and ended at 200 MB. Recording has begun when `__enter__`
    returns, and all that passed before `__exit__` is in the files when that returns. Frames that
    were lost are a gap in the evidence of their place. An interface may go down and up again
    meanwhile. Raises Missing where packet sockets are not allowed, and LabError where there is no
    such interface, or, at the end, where recording broke.

    Uses its own packet sockets, because the usual recorders fail here: tcpdump insists on changing
    user, which fails in the user namespace of an ordinary user (`-Z root` too), and dumpcap when
    stopped loses frames still in the kernel, up to the last 0.6 s.
    """

    def __init__(
        self,
        interfaces: Mapping[str, str],
        directory: Path,
        *,
        timeline: Timeline,
        full: bool = False,
        ports: Sequence[int] = (3260,),
    ) -> None:
        self.files = {where: directory / f"{where}.pcap" for where in interfaces}
        self._interfaces = dict(interfaces)
        self._evidence = {where: Evidence(timeline, where, "capture") for where in interfaces}
        self._filter = None if full else control_filter(ports)
        self._snaplen = FULL_SNAPLEN if full else SNAPLEN
        self._buffer = bytearray(SNAPLEN)
        self._sockets: dict[str, socket.socket] = {}
        self._written: dict[str, BinaryIO] = {}
        self._lost: dict[str, str] = {}
        self._broke: Exception | None = None

    def __enter__(self) -> Capture:
        """Start recording; if one interface fails, close all of them."""
        try:
            for where, interface in self._interfaces.items():
                self.files[where].parent.mkdir(parents=True, exist_ok=True)
                self._written[where] = self.files[where].open("wb")
                self._written[where].write(PCAP_NANOSECONDS)
                self._sockets[where] = self._open(interface)
        except BaseException:
            self._close()
            raise
        self._wake, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._thread.start()
        for evidence in self._evidence.values():
            evidence.begin()
        return self

    def _open(self, interface: str) -> socket.socket:
        try:
            # With protocol 0 it receives nothing until bind, so no unfiltered frame comes in.
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        except PermissionError:
            raise Missing(
                "recording frames is not allowed here; run the lab as root or where user "
                "namespaces are allowed"
            ) from None
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            for option in (SO_RCVBUFFORCE, socket.SO_RCVBUF):  # the first needs a privilege
                try:
                    sock.setsockopt(socket.SOL_SOCKET, option, 8 << 20)
                    break
                except PermissionError:
                    continue
            if self._filter:
                with compiled(self._filter) as program:
                    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
            sock.bind((interface, ETH_P_ALL))
            sock.setblocking(False)
        except OSError as refused:
            sock.close()
            raise LabError(f"cannot record interface {interface}: {refused}") from refused
        return sock

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop recording after all frames are written."""
        os.close(self._stopped)
        self._thread.join(STOP_S)
        late = self._thread.is_alive()
        if late:
            for where in self._sockets:
                self._lost.setdefault(where, f"not read to the end within {STOP_S:g} s")
        else:
            os.close(self._wake)
        for where, sock in self._sockets.items():
            _, dropped = struct.unpack("=II", sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
            if dropped:
                said = [self._lost[where]] if where in self._lost else []
                self._lost[where] = "; ".join([*said, f"{dropped} frames lost"])
        self._close()
        for where, evidence in self._evidence.items():
            if where in self._lost:
                evidence.gap(self._lost[where])
            evidence.end()
        if error is None and (self._broke or late):
            what = str(self._broke) if self._broke else f"not read to the end within {STOP_S:g} s"
            raise LabError(f"recording broke: {what}") from self._broke

    def _close(self) -> None:
        for sock in self._sockets.values():
            sock.close()
        for out in self._written.values():
            out.close()
        self._sockets.clear()
        self._written.clear()

    def _run(self) -> None:
        try:
            self._record()
        except Exception as broken:
            self._broke = broken
            for where in self._sockets:
                self._lost.setdefault(where, f"recording broke: {broken}")

    def _record(self) -> None:
        poll = select.poll()
        poll.register(self._wake)
        places = {}
        for where, sock in self._sockets.items():
            poll.register(sock, select.POLLIN)
            places[sock.fileno()] = where
        stopping = False
        while not stopping:
            # When asked to stop, read all socket queues to their end once more.
            ready = dict(poll.poll())
            stopping = self._wake in ready
            for where in places.values() if stopping else [places[fd] for fd in ready]:
                try:
                    self._drain(where)
                except OSError as broken:  # a full disk: report it, and record the other places
                    self._lost.setdefault(where, f"not written: {broken}")

    def _drain(self, where: str) -> None:
        sock, out = self._sockets[where], self._written[where]
        while True:
            try:
                length, notes, _, _ = sock.recvmsg_into([self._buffer], 64, socket.MSG_TRUNC)
            except BlockingIOError:
                break
            except OSError as went:
                if went.errno == errno.ENETDOWN:  # comes once when the interface goes down
                    continue
                raise
            if out.tell() > LARGEST:
                self._lost[where] = f"ended at {LARGEST} bytes"
                continue
            kept = min(length, self._snaplen)
            seconds, nanoseconds = struct.unpack("@ll", notes[0][2][:16])
            out.write(struct.pack("=IIII", seconds, nanoseconds, kept, length))
            out.write(self._buffer[:kept])
        out.flush()
