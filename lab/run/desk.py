"""The desk of a lab that stays up takes orders through a socket in the run folder."""

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
    """The address of the socket in `folder`, by a descriptor of the folder.

    A socket's path has at most 108 bytes (unix(7)); a run folder's path may be longer.
    """
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{SOCKET}"
    finally:
        os.close(handle)


def serve(folder: Path, obey: Obey) -> None:
    """Take orders at the run folder, one at a time; return after the order `down`.

    An order is a JSON object with `command`. The answer is the object that `obey` returns, or
    {"error", "exit_code"} if it raises. Only this user may give orders.
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
        # A client that connects and says nothing must not block the others.
        connection.settimeout(5.0)
        try:
            order = dict(json.loads(file.readline()))
        except (ValueError, TypeError, OSError):
            return False  # no order: a client that looked whether the lab is up
        try:
            answer = obey(order)
        except LabError as error:
            answer = {"error": str(error), "exit_code": error.exit_code}
        except Exception as bug:  # a bug of ours must not end what a person has built up
            what = f"{order.get('command')}: {type(bug).__name__}: {bug}; this is a bug of the lab"
            answer = {"error": what, "exit_code": LabError.exit_code}
        try:
            file.write(json.dumps(answer) + "\n")
            file.flush()
        except OSError:
            pass  # the client did not wait for the answer; the order is done
        return order.get("command") == "down"


def find(folder: Path | None, runs: Path) -> Path:
    """The run folder of the lab that is up: `folder`, or the only one in `runs`.

    Raises BadInput with the labs that are up unless exactly one is.
    """
    if folder is not None:
        if not _is_up(folder):
            raise BadInput(f"{folder}: no lab is up there; `lab up` starts one in a new folder")
        return folder
    up = [one.parent for one in sorted(runs.glob(f"*/{SOCKET}")) if _is_up(one.parent)]
    if not up:
        raise BadInput(f"no lab is up in {runs}/; start one with `lab up`, or give --run FOLDER")
    if len(up) > 1:
        raise BadInput(f"several labs are up; choose one: --run {' or '.join(map(str, up))}")
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
    """Give the lab at `folder` an order and return the answer.

    Raises BadInput if the lab refuses the order, LabError if the order fails or no answer comes
    within a minute.
    """
    with _connect(folder) as client, client.makefile("rw", encoding="utf-8") as file:
        client.settimeout(_ANSWER_SECONDS)
        try:
            file.write(json.dumps({"command": command, **details}) + "\n")
            file.flush()
            answer = dict(json.loads(file.readline()))
        except (OSError, ValueError):
            raise LabError(f"{folder}: the lab did not answer `{command}`") from None
    if "error" in answer:
        raise (BadInput if answer["exit_code"] == 2 else LabError)(answer["error"])
    return answer
