"""The one way to run a command: an argv list, a time limit, and a failure that explains itself."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lab.errors import CommandFailed, Missing
from lab.waiting import wait_for

OnLine = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """What a command left behind: exit `status` and `output` (its standard output)."""

    status: int
    output: str


class Process(Protocol):
    """A handle on a command that goes on running."""

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""

    def wait(self, seconds: float) -> int:
        """The exit status once it has ended; CommandFailed (status None) after `seconds`."""

    def send(self, line: str) -> None:
        """Write one line to its standard input."""

    def close_input(self) -> None:
        """End its standard input."""

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""


class Runner(Protocol):
    """A place where commands run: a network namespace of this machine, or a guest."""

    host: str

    def run(
        self,
        argv: Sequence[str],
        *,
        seconds: float = 30.0,
        stdin: str | None = None,
        check: bool = True,
    ) -> Result:
        """Run `argv` to its end; CommandFailed if it fails (unless `check` is False) or hangs."""

    def start(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        on_line: OnLine | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Process:
        """Start `argv` and return at once.

        Its standard error goes to `log`; so does its standard output, unless `on_line` is given,
        which then gets each line of it, from a thread of its own.
        """


def require(program: str, package: str) -> str:
    """The path of `program`; raises Missing, naming the Debian `package`, where there is none."""
    found = shutil.which(program)
    if not found:
        raise Missing(f"{program} is not on PATH; install it: sudo apt-get install {package}")
    return found


class LocalProcess:
    """A Process of this machine."""

    def __init__(
        self,
        host: str,
        argv: Sequence[str],
        *,
        log: Path,
        on_line: OnLine | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.host, self.argv = host, list(argv)
        with log.open("ab") as out:
            self.popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if on_line else out,
                stderr=out,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        self._reader: threading.Thread | None = None
        if on_line:
            self._reader = threading.Thread(target=self._read, args=(on_line,), daemon=True)
            self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id on this machine."""
        return self.popen.pid

    def _read(self, on_line: OnLine) -> None:
        assert self.popen.stdout
        for line in self.popen.stdout:
            on_line(line.decode(errors="replace").rstrip("\n"))

    def poll(self) -> int | None:
        """See Process."""
        return self.popen.poll()

    def wait(self, seconds: float) -> int:
        """See Process."""
        try:
            status = self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise CommandFailed(self.host, self.argv, None, "") from None
        if self._reader:
            self._reader.join(1.0)
        return status

    def send(self, line: str) -> None:
        """See Process."""
        assert self.popen.stdin
        self.popen.stdin.write(line.encode() + b"\n")
        self.popen.stdin.flush()

    def close_input(self) -> None:
        """See Process."""
        if self.popen.stdin:
            with contextlib.suppress(BrokenPipeError):
                self.popen.stdin.close()

    def kill(self) -> None:
        """See Process. Ends its whole session, which is ours: a kernel program has helpers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait(10.0)
        wait_for(f"the end of {self.argv[0]}", self._group_is_gone, seconds=10.0, every=0.002)
        self.close_input()

    def _group_is_gone(self) -> bool:
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return True
        return False


class LocalRunner:
    """Runs commands on this machine, in the network namespace of process `pid` if one is given."""

    def __init__(self, host: str, pid: int | None = None) -> None:
        self.host = host
        self._prefix = ["mnexec", "-a", str(pid)] if pid else []

    def run(
        self,
        argv: Sequence[str],
        *,
        seconds: float = 30.0,
        stdin: str | None = None,
        check: bool = True,
    ) -> Result:
        """See Runner."""
        try:
            done = subprocess.run(
                [*self._prefix, *argv],
                input=stdin if stdin is not None else "",
                capture_output=True,
                timeout=seconds,
                text=True,
                errors="replace",
                check=False,
            )
        except FileNotFoundError:
            raise Missing(f"{self.host}: {argv[0]} is not on PATH; see `lab doctor`") from None
        except subprocess.TimeoutExpired as slow:
            seen = slow.stdout or b""
            text = seen.decode(errors="replace") if isinstance(seen, bytes) else seen
            raise CommandFailed(self.host, argv, None, text) from None
        if check and done.returncode:
            raise CommandFailed(self.host, argv, done.returncode, done.stdout + done.stderr)
        return Result(done.returncode, done.stdout)

    def start(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        on_line: OnLine | None = None,
        env: Mapping[str, str] | None = None,
    ) -> LocalProcess:
        """See Runner."""
        return LocalProcess(self.host, [*self._prefix, *argv], log=log, on_line=on_line, env=env)
