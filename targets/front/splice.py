"""Bytes from one socket to another, by the kernel."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket


def pass_on(source: socket.socket, sink: socket.socket) -> None:
    """Move what `source` sends to `sink` without copying it, until either of them ends."""
    out, into = os.pipe()
    with contextlib.suppress(OSError):
        fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, 1 << 20)
    try:
        while waiting := os.splice(source.fileno(), into, 1 << 20):
            while waiting:
                waiting -= os.splice(out, sink.fileno(), waiting)
    except OSError:
        pass
    finally:
        os.close(out)
        os.close(into)
        # iSCSI knows no half-open connection: one end gone is both gone.
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
