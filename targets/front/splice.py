"""Passes bytes from one socket to another inside the kernel (splice(2))."""

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
        # iSCSI has no half-open connections: if one end is gone, end both.
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
