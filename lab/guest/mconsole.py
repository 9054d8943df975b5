"""The management console of a User-Mode Linux kernel, which adds and removes devices."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

from lab.errors import LabError
from lab.sandbox import in_network_of

# arch/um/drivers/mconsole.h: magic, version, length, 512 bytes. An answer: error, more, length.
_MAGIC, _VERSION = 0xCAFEBABE, 2
_REQUEST = struct.Struct("<III512s")
_ANSWER = struct.Struct("<III")
ANSWER_S = 5.0
_PATIENCE_S = 0.1


def mconsole(pid: int, directory: Path, command: str) -> None:
    """Give `command` ("config ubdc=/luns/disk") to the kernel whose console is in `directory`.

    `pid` is a process in the kernel's network namespace. Raises LabError with the kernel's message
    if it refuses, or if it does not answer within ANSWER_S seconds.
    """
    in_network_of(pid, lambda: _ask(directory, command))


def _ask(directory: Path, command: str) -> None:
    # The kernel in its chroot cannot use a path of ours, but an abstract socket name works. The
    # console's path goes through a descriptor, because a socket's path has at most 107 characters.
    folder = os.open(directory, os.O_PATH)
    console = f"/proc/self/fd/{folder}/mconsole"
    try:
        with _socket() as ours:
            ours.sendto(_request(command), console)
            text, more = b"", 1
            while more:
                answer = _receive(ours, console)
                error, more, size = _ANSWER.unpack_from(answer)
                text += answer[_ANSWER.size : _ANSWER.size + size]
    except OSError as failed:
        raise LabError(f"{directory.name}: no answer to `{command}`: {failed}") from None
    finally:
        os.close(folder)
    if error:
        said = text.decode(errors="replace").strip("\0\n")
        raise LabError(f"{directory.name}: `{command}` was refused: {said}")


def _socket() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.settimeout(_PATIENCE_S)
    made.bind("")
    return made


def _request(command: str) -> bytes:
    data = command.encode()
    return _REQUEST.pack(_MAGIC, _VERSION, len(data), data)


def _receive(ours: socket.socket, console: str) -> bytes:
    """The next answer.

    The kernel misses the interrupt of about one request in a hundred, which then waits until the
    next one. So a harmless second request wakes it; nobody reads the answer to that.
    """
    for _ in range(int(ANSWER_S / _PATIENCE_S)):
        try:
            return ours.recv(_ANSWER.size + 512)
        except TimeoutError:
            with _socket() as other:
                other.sendto(_request("version"), console)
    raise TimeoutError("timed out")
