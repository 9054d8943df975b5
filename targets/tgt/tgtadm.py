"""tgtadm, the program that configures a tgtd."""

from __future__ import annotations

import contextlib
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import sh

from lab.commands import require
from lab.errors import CommandFailed, LabError

SOCKET = "control"
_ASIDE = "account"
_SECONDS = 10
_TIMED_OUT = 124


class Tgtadm:
    """Calls tgtadm for the tgtd number `number` whose control socket is in `directory`.

    Raises Missing if tgtadm is not installed.
    """

    def __init__(self, host: str, directory: Path, number: int) -> None:
        self.host, self.number, self._directory = host, number, directory
        # The socket's path is relative to the working directory of both programs: it has at most
        # 107 characters, and a run folder's path may be longer. sh's own `_timeout` polls ten
        # times a second, so each call would take 0.1 s instead of 3 ms.
        self._program = sh.Command(require("timeout", "coreutils")).bake(
            str(_SECONDS),
            require("tgtadm", "tgt"),
            "--lld=iscsi",
            f"--control-port={number}",
            _cwd=str(directory),
            _env=_environment(SOCKET),
            _tty_out=False,
        )

    def new_account(self, user: str, secret: str) -> None:
        """Make a CHAP account; CommandFailed, without the secret, if it was refused.

        tgtadm takes the secret as an argument, and every user of the machine can read arguments. So
        it is given a blank, and a socket of ours, where the secret takes the place of the blank on
        its way to tgtd.
        """
        if not self._directory.is_dir():
            raise LabError(f"{self.host}: tgtd {self.number} does not run")
        blank = "*" * len(secret.encode())
        folder = os.open(self._directory, os.O_PATH)
        try:
            with socket.socket(socket.AF_UNIX) as door, ThreadPoolExecutor(1) as helper:
                door.settimeout(_SECONDS)
                door.bind(f"/proc/self/fd/{folder}/{_ASIDE}.{self.number}")
                door.listen()
                tgtd = f"/proc/self/fd/{folder}/{SOCKET}.{self.number}"
                done = helper.submit(_fill_in, door, tgtd, blank.encode(), secret.encode())
                try:
                    options = (f"--user={user}", f"--password={blank}")
                    self("account", "new", *options, _env=_environment(_ASIDE))
                finally:
                    door.shutdown(socket.SHUT_RDWR)  # if tgtadm never came
                    os.unlink(f"{_ASIDE}.{self.number}", dir_fd=folder)
                if not done.result():  # tgtadm takes no answer for success
                    raise LabError(f"{self.host}: tgtd {self.number} did not answer for {user}")
        finally:
            os.close(folder)

    def __call__(self, mode: str, op: str, *options: str, **special: Any) -> str:
        """One request, and what it printed; CommandFailed if it was refused.

        `special` are parameters of sh.
        """
        if not self._directory.is_dir():
            raise LabError(f"{self.host}: tgtd {self.number} does not run")
        try:
            return str(self._program(f"--mode={mode}", f"--op={op}", *options, **special))
        except sh.ErrorReturnCode as error:
            output = (error.stdout + error.stderr).decode(errors="replace")
            status = None if error.exit_code == _TIMED_OUT else error.exit_code
        argv = ["tgtadm", f"--control-port={self.number}", f"--mode={mode}", f"--op={op}"]
        raise CommandFailed(self.host, [*argv, *options], status, output)


def _environment(control: str) -> dict[str, str]:
    return {**os.environ, "TGT_IPC_SOCKET": control}


def _fill_in(door: socket.socket, tgtd: str, blank: bytes, secret: bytes) -> bool:
    """Take tgtadm's request at `door`, put `secret` for `blank`, and bring back tgtd's answer.

    Returns whether there was one.
    """
    answered = False
    with contextlib.suppress(OSError):
        tgtadm, _ = door.accept()
        with tgtadm, socket.socket(socket.AF_UNIX) as engine:
            for one in (tgtadm, engine):
                one.settimeout(_SECONDS)
            engine.connect(tgtd)
            # tgtadm writes a header of numbers, then "user=…,password=…", each in one piece.
            while part := tgtadm.recv(1 << 16):
                before, found, after = part.rpartition(blank)
                engine.sendall(before + secret + after if found else part)
                if found:
                    break
            while part := engine.recv(1 << 16):
                tgtadm.sendall(part)
                answered = True
    return answered
