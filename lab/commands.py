"""Runs every command of the lab: an argv list, a time limit, and an error that explains itself."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lab.errors import CommandFailed, LabError, Missing
from lab.waiting import wait_for

_PF_EXITING = 0x4

OnLine = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """The result of a command: exit `status` and `output` (its standard output)."""

    status: int
    output: str


class Process(Protocol):
    """A handle on a running command."""

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""

    def wait(self, seconds: float) -> int:
        """Wait for its end; the exit status. CommandFailed (status None) after `seconds`."""

    def send(self, line: str) -> None:
        """Write one line to its standard input."""

    def close_input(self) -> None:
        """Close its standard input."""

    def kill(self) -> None:
        """Send SIGKILL, and wait until the process is gone."""


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
        """Run `argv` to its end and return its result.

        Raises CommandFailed if it fails (unless `check` is False) or outlasts `seconds`.
        """

    def start(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        on_line: OnLine | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Process:
        """Start `argv` and return at once.

        `log` gets its standard error, and its standard output unless `on_line` is given. A separate
        thread calls `on_line` with each line of standard output.
        """


def require(program: str, package: str) -> str:
    """The path of `program`; raises Missing, naming the Debian `package`, if it is not on PATH."""
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
        self._unread: Exception | None = None
        self._gone = False
        try:
            with log.open("ab") as out:
                self.popen = subprocess.Popen(
                    self.argv,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE if on_line else out,
                    stderr=out,
                    env={**os.environ, **(env or {})},
                    start_new_session=True,
                )
        except OSError as refused:
            raise _not_started(host, refused) from None
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
            try:
                on_line(line.decode(errors="replace").rstrip("\n"))
            except Exception as broken:
                # Read on, or the process would hang at a full pipe. wait() raises the error.
                self._unread = self._unread or broken

    def poll(self) -> int | None:
        """See Process."""
        return self.popen.poll()

    def wait(self, seconds: float) -> int:
        """See Process."""
        try:
            status = self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise CommandFailed(self.host, self.argv, None, "") from None
        self._read_out(1.0)
        return status

    def _read_out(self, seconds: float) -> None:
        """Wait until its output is read; LabError if some of it was lost."""
        if self._reader:
            self._reader.join(seconds)
        if self._unread:
            broken, self._unread = self._unread, None
            told = f"{type(broken).__name__}: {broken}"
            raise LabError(f"{self.host}: lost output of {self._name}: {told}") from broken

    @property
    def _name(self) -> str:
        return f"`{' '.join(self.argv)}`"

    def send(self, line: str) -> None:
        """See Process."""
        assert self.popen.stdin
        try:
            self.popen.stdin.write(line.encode() + b"\n")
            self.popen.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise LabError(f"{self.host}: {self._name} has ended; cannot send {line!r}") from None

    def close_input(self) -> None:
        """See Process."""
        if self.popen.stdin:
            with contextlib.suppress(BrokenPipeError):
                self.popen.stdin.close()

    def kill(self) -> None:
        """See Process. Ends its whole process group: a kernel program has helpers."""
        if self._gone:
            return  # another process may have its id by now
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        # Popen.wait() alone polls ever more slowly, down to 20 times a second.
        with contextlib.suppress(OSError):  # already reaped
            pidfd = os.pidfd_open(self.pid)
            try:
                select.select([pidfd], [], [], 10.0)
            finally:
                os.close(pidfd)
        try:
            self.popen.wait(10.0)
        except subprocess.TimeoutExpired:
            raise CommandFailed(self.host, self.argv, None, "") from None
        wait_for(f"the end of {self._name}", self._group_is_gone, seconds=10.0, every=0.002)
        self._gone = True
        self.close_input()
        # Only now nobody holds the other end of its output.
        self._read_out(10.0)
        if self._reader and self._reader.is_alive():
            raise LabError(f"{self.host}: the output of {self._name} was not read to its end")

    def halt(self) -> None:
        """Send SIGKILL, and wait until none of its tasks runs; call kill() afterwards.

        This does not wait for the kernel to free a guest's memory, which takes 60 ms.
        """
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        wait_for(
            f"{self._name} to stop", lambda: not _running(self.pid), seconds=10.0, every=0.0005
        )

    def _group_is_gone(self) -> bool:
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return True
        # Dead helpers count as gone: outside the sandbox it takes time until they are reaped.
        return not any(_lives_in(self.pid, stat) for stat in Path("/proc").glob("[0-9]*/stat"))


def _running(group: int) -> bool:
    """Whether a task of the process group can still run its program.

    A task with PF_EXITING (linux/sched.h) has begun to exit and never returns to its program.
    """
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(path.name)) != group:
                continue
            for stat in (path / "task").glob("*/stat"):
                fields = stat.read_text(errors="replace").rpartition(")")[2].split()
                if not int(fields[6]) & _PF_EXITING:
                    return True
        except OSError:
            continue  # it is gone
    return False


def _lives_in(group: int, stat: Path) -> bool:
    try:
        state, _, of = stat.read_text(errors="replace").rpartition(")")[2].split()[:3]
    except (OSError, ValueError):
        return False
    return int(of) == group and state != "Z"


def _not_started(host: str, refused: OSError) -> LabError:
    if isinstance(refused, FileNotFoundError) and "/" not in str(refused.filename):
        return Missing(f"{host}: {refused.filename} is not on PATH; see `lab doctor`")
    return LabError(f"{host}: {refused.filename}: {refused.strerror}")


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
            started = subprocess.Popen(
                [*self._prefix, *argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as refused:
            raise _not_started(self.host, refused) from None
        with started:
            try:
                out, errors = started.communicate((stdin or "").encode(), timeout=seconds)
            except subprocess.TimeoutExpired as slow:
                text = (slow.stdout or b"").decode(errors="replace")
                text += (slow.stderr or b"").decode(errors="replace")
                raise CommandFailed(self.host, argv, None, text) from None
            finally:
                if started.returncode is None:
                    os.killpg(started.pid, signal.SIGKILL)  # with all processes that it started
        output = out.decode(errors="replace")
        if check and started.returncode:
            shown = output + errors.decode(errors="replace")
            raise CommandFailed(self.host, argv, started.returncode, shown)
        return Result(started.returncode, output)

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
