"""tgtadm, the program that configures a tgtd."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

import sh

from lab.commands import require
from lab.errors import CommandFailed, LabError

# sh logs every argument list, and those of CHAP accounts hold secrets.
logging.getLogger("sh").setLevel(logging.WARNING)

SOCKET = "control"
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
            _env={**os.environ, "TGT_IPC_SOCKET": SOCKET},
            _tty_out=False,
        )

    def __call__(self, mode: str, op: str, *options: str) -> str:
        """One request, and what it printed; CommandFailed, without secrets, if it was refused."""
        if not self._directory.is_dir():
            raise LabError(f"{self.host}: tgtd {self.number} does not run")
        try:
            return str(self._program(f"--mode={mode}", f"--op={op}", *options))
        except sh.ErrorReturnCode as error:
            output = (error.stdout + error.stderr).decode(errors="replace")
            status = None if error.exit_code == _TIMED_OUT else error.exit_code
        # Outside the handler, so that sh's error, which holds the secret, is not its context.
        argv = ["tgtadm", f"--control-port={self.number}", f"--mode={mode}", f"--op={op}"]
        raise CommandFailed(self.host, argv + _without_secrets(options), status, output)


def _without_secrets(options: Sequence[str]) -> list[str]:
    return [re.sub(r"^(--password=).*", r"\1***", option) for option in options]
