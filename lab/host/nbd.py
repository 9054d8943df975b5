"""The writer of lab/guest/files, for a disk that another process exports by NBD.

Arguments, commands and output are those of writer.py; the device is the path of a UNIX socket. This
is the part of the protocol (doc/proto.md of the NBD project) for one operation at a time.
"""

from __future__ import annotations

import errno
import mmap
import os
import socket
import struct

from lab.guest.files.writer import BLOCK, Writer, main

_GREETING = struct.Struct(">8s8sH")
_OPTION = struct.Struct(">8sII")
_EXPORT = struct.Struct(">QH")
_REQUEST = struct.Struct(">IHHQQI")
_REPLY = struct.Struct(">IIQ")
_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2
_EXPORT_NAME = 1
_SEND_FUA = 1 << 3
_FUA = 1 << 0
_REQUEST_MAGIC, _REPLY_MAGIC = 0x25609513, 0x67446698
_READ, _WRITE, _DISCONNECT = 0, 1, 2


class NbdDisk:
    """The NBD export at the UNIX socket `path`; one request at a time.

    `stable`: an acknowledged write outlasts a power cut of the disk (NBD_CMD_FLAG_FUA). Raises
    OSError if the server cannot do that, breaks the protocol, or takes more than `seconds` (None:
    no limit) for an answer.
    """

    def __init__(self, path: str, *, stable: bool = False, seconds: float | None = None) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(seconds)
        self._socket.connect(path)
        magic, option, offered = _GREETING.unpack(self._take(_GREETING.size))
        wanted = _FIXED_NEWSTYLE | _NO_ZEROES
        if magic != b"NBDMAGIC" or option != b"IHAVEOPT" or offered & wanted != wanted:
            raise OSError(errno.EPROTO, f"{path}: not an NBD server with fixed newstyle")
        choice = _OPTION.pack(b"IHAVEOPT", _EXPORT_NAME, 0)  # the export without a name
        self._socket.sendall(struct.pack(">I", wanted) + choice)
        self.size, can = _EXPORT.unpack(self._take(_EXPORT.size))
        if stable and not can & _SEND_FUA:
            raise OSError(errno.ENOTSUP, f"{path}: the NBD server does not offer FUA writes")
        self._flags = _FUA if stable else 0
        self._number = 0

    def write(self, data: bytes, offset: int) -> None:
        """Write `data` at `offset`; raises OSError with the server's error."""
        self._ask(_WRITE, offset, len(data), data)

    def read(self, length: int, offset: int) -> bytes:
        """Read `length` bytes at `offset`; raises OSError with the server's error."""
        self._ask(_READ, offset, length)
        return self._take(length)

    def close(self) -> None:
        """Disconnect from the server."""
        leave = _REQUEST.pack(_REQUEST_MAGIC, 0, _DISCONNECT, self._number + 1, 0, 0)
        self._socket.sendall(leave)
        self._socket.close()

    def _ask(self, kind: int, offset: int, length: int, data: bytes = b"") -> None:
        self._number += 1
        flags = self._flags if kind == _WRITE else 0
        request = _REQUEST.pack(_REQUEST_MAGIC, flags, kind, self._number, offset, length)
        self._socket.sendall(request + data)
        magic, error, number = _REPLY.unpack(self._take(_REPLY.size))
        if magic != _REPLY_MAGIC or number != self._number:
            raise OSError(errno.EPROTO, "the NBD server's answer matches no request")
        if error:
            raise OSError(error, os.strerror(error))

    def _take(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            part = self._socket.recv(length - len(data))
            if not part:
                raise OSError(errno.EPIPE, "the NBD server hung up")
            data += part
        return bytes(data)


class NbdWriter(Writer):
    """The writer, on an NBD export instead of a device of this kernel."""

    def _open(self, device: str, flags: int) -> None:
        self._disk = NbdDisk(device, stable=bool(flags & os.O_DSYNC))

    def _transfer(self, op: str, block: int, buffer: mmap.mmap) -> int:
        if op == "write":
            self._disk.write(buffer[:], block * BLOCK)
        else:
            buffer[:] = self._disk.read(len(buffer), block * BLOCK)
        return len(buffer)


if __name__ == "__main__":
    main(NbdWriter)
