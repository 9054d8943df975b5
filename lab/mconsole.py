"""The management console of a User-Mode Linux kernel: devices come and go while it runs."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

from lab.errors import LabError
from lab.remote import in_network_of

# arch/um/drivers/mconsole.h: magic, version, length, 512 bytes. An answer: error, more, length.
_MAGIC, _VERSION = 0xCAFEBABE, 2
_REQUEST = struct.Struct("<III512s")
_ANSWER = struct.Struct("<III")


def mconsole(pid: int, directory: Path, command: str) -> None:
    """Give `command` ("config ubdc=/luns/disk") to the kernel whose console is in `directory`.

    `pid` is a process of the network namespace that the kernel runs in. Raises LabError with the
    kernel's words if it refuses, or does not answer within 5 s.
    """
    in_network_of(pid, lambda: _ask(directory, command))


def _ask(directory: Path, command: str) -> None:
    # The kernel, in its chroot, finds no socket by a path of ours; an abstract name it does. And
    # the path of a socket ends at 107 characters, that of a run folder may not.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.settimeout(5.0)
        ours.bind("")
        folder = os.open(directory, os.O_PATH)
        try:
            data = command.encode()
            request = _REQUEST.pack(_MAGIC, _VERSION, len(data), data)
            ours.sendto(request, f"/proc/self/fd/{folder}/mconsole")
            text, more = b"", 1
            while more:
                answer = ours.recv(_ANSWER.size + 512)
                error, more, size = _ANSWER.unpack_from(answer)
                text += answer[_ANSWER.size : _ANSWER.size + size]
        except OSError as failed:
            raise LabError(f"{directory.name}: no answer to `{command}`: {failed}") from None
        finally:
            os.close(folder)
    if error:
        said = text.decode(errors="replace").strip("\0\n")
        raise LabError(f"{directory.name}: `{command}` was refused: {said}")
