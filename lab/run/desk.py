"""Orders from another terminal to a lab that stays up, by a socket in its run folder."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.errors import BadInput, LabError

SOCKET = "orders"
_ANSWER_SECONDS = 60.0

Obey = Callable[[dict[str, Any]], dict[str, Any]]


@contextmanager
def _address(folder: Path) -> Iterator[str]:
    """The address of the socket in `folder`. It goes through a descriptor of the folder, as an
    address is limited to 108 bytes (unix(7))."""
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{SOCKET}"
    finally:
        os.close(handle)


def serve(folder: Path, obey: Obey) -> None:
    """Take orders at the run folder, one at a time; return after answering the order `down`.

    An order is a JSON object with `command`. The answer is the JSON object that `obey` returns, or
    {"error", "exit_code"} if it raises a LabError. Only this user may give orders.
    """
    with _address(folder) as address, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as desk:
        before = os.umask(0o177)
        try:
            desk.bind(address)
        finally:
            os.umask(before)
        desk.listen()
        try:
            while not _serve_one(desk, obey):
                pass
        finally:
            (folder / SOCKET).unlink(missing_ok=True)


def _serve_one(desk: socket.socket, obey: Obey) -> bool:
    connection, _ = desk.accept()
    with connection, connection.makefile("rw", encoding="utf-8") as file:
        # A client that connects and sends nothing must not block others.
        connection.settimeout(5.0)
        try:
            order = dict(json.loads(file.readline()))
        except (ValueError, TypeError, OSError):
            return False  # no order: _is_up() only connects
        try:
            answer = obey(order)
        except LabError as error:
            answer = {"error": str(error), "exit_code": error.exit_code}
        try:
            file.write(json.dumps(answer) + "\n")
            file.flush()
        except OSError:
            pass  # the client did not wait; its order was followed
        return order.get("command") == "down"


def find(folder: Path | None, runs: Path) -> Path:
    """The run folder of the lab that is up: `folder`, or the only one in `runs`.

    Raises BadInput unless there is exactly one; the message names those that are up.
    """
    if folder is not None:
        if not _is_up(folder):
            raise BadInput(f"{folder}: no lab is up there; start one with `lab up --out {folder}`")
        return folder
    up = [one.parent for one in sorted(runs.glob(f"*/{SOCKET}")) if _is_up(one.parent)]
    if not up:
        raise BadInput(f"no lab is up in {runs}/; start one with `lab up`, or name its --run")
    if len(up) > 1:
        raise BadInput(f"several labs are up; say which: --run {' or '.join(map(str, up))}")
    return up[0]


def _is_up(folder: Path) -> bool:
    try:
        _connect(folder).close()
    except OSError:
        return False
    return True


def _connect(folder: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _address(folder) as address:
            client.connect(address)
    except OSError:
        client.close()
        raise
    return client


def order(folder: Path, command: str, **details: Any) -> dict[str, Any]:
    """Give the lab at `folder` an order and return its answer.

    Raises BadInput if the lab refuses it, LabError if it fails or is not answered within 60 s.
    """
    with _connect(folder) as client, client.makefile("rw", encoding="utf-8") as file:
        client.settimeout(_ANSWER_SECONDS)
        try:
            file.write(json.dumps({"command": command, **details}) + "\n")
            file.flush()
            answer = dict(json.loads(file.readline()))
        except (OSError, ValueError):
            raise LabError(f"{folder}: the lab gave no answer to `{command}`") from None
    if "error" in answer:
        raise (BadInput if answer["exit_code"] == 2 else LabError)(answer["error"])
    return answer
