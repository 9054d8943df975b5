"""Commands in a guest by SSH (paramiko) on its link-local management interface."""

from __future__ import annotations

import contextlib
import io
import logging
import shlex
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lab.commands import OnLine, Result
from lab.errors import CommandFailed, LabError
from lab.sandbox import in_network_of
from lab.waiting import wait_for

logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # its failures reach us as exceptions

# What paramiko raises if there is no connection, or no longer one.
_GONE = (paramiko.SSHException, OSError, EOFError)


@dataclass(frozen=True)
class Keys:
    """The SSH keys of one run: the client's, and the host key of every guest."""

    client: paramiko.PKey
    authorized: str
    host_blob: bytes
    host_file: bytes

    @classmethod
    def make(cls) -> Keys:
        """New Ed25519 keys; `host_file` has dropbear's format (its signkey/ed25519 code)."""
        private = Ed25519PrivateKey.generate()
        text = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        client = paramiko.Ed25519Key.from_private_key(io.StringIO(text.decode()))
        host = Ed25519PrivateKey.generate()
        raw, whole = serialization.Encoding.Raw, serialization.PrivateFormat.Raw
        seed = host.private_bytes(raw, whole, serialization.NoEncryption())
        public = host.public_key().public_bytes(raw, serialization.PublicFormat.Raw)
        name = _string(b"ssh-ed25519")
        return cls(
            client=client,
            authorized=f"ssh-ed25519 {client.get_base64()} lab\n",
            host_blob=name + _string(public),
            host_file=name + _string(seed + public),
        )


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _take(read: Callable[[int], bytes], into: bytearray) -> None:
    """Append the results of `read` to `into` until it ends."""
    with contextlib.suppress(OSError):
        while chunk := read(65536):
            into += chunk


class SshProcess:
    """A Process (see lab.commands) in a guest."""

    def __init__(
        self, runner: SshRunner, argv: Sequence[str], log: Path, on_line: OnLine | None
    ) -> None:
        self.runner, self.argv, self._shown = runner, list(argv), shlex.join(argv)
        self._channel = runner.open_channel()
        # The first line of output is the process id, for kill(): exec keeps it.
        try:
            self._channel.exec_command(f"echo $$; exec {self._shown}")
        except _GONE as gone:
            raise LabError(f"{runner.host}: lost while starting `{self._shown}` ({gone})") from None
        self._pid: int | None = None
        self._started = threading.Event()
        self._threads = [
            threading.Thread(target=self._read_out, args=(log, on_line), daemon=True),
            threading.Thread(target=self._read_err, args=(log,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read_out(self, log: Path, on_line: OnLine | None) -> None:
        with self._channel.makefile("rb") as stream, log.open("ab") as out:
            for raw in stream:
                line = raw if isinstance(raw, bytes) else raw.encode()
                if self._pid is None:
                    self._pid = int(line)
                    self._started.set()
                elif on_line:
                    on_line(line.decode(errors="replace").rstrip("\n"))
                else:
                    out.write(line)
                    out.flush()
        self._started.set()

    def _read_err(self, log: Path) -> None:
        with self._channel.makefile_stderr("rb") as stream, log.open("ab") as out:
            for raw in stream:
                out.write(raw if isinstance(raw, bytes) else raw.encode())
                out.flush()

    def poll(self) -> int | None:
        """See Process."""
        return self._channel.recv_exit_status() if self._channel.exit_status_ready() else None

    def wait(self, seconds: float) -> int:
        """See Process."""
        if not self._channel.status_event.wait(seconds):
            raise CommandFailed(self.runner.host, self.argv, None, "")
        for thread in self._threads:
            thread.join(2.0)
        return self._channel.recv_exit_status()

    def send(self, line: str) -> None:
        """See Process."""
        try:
            self._channel.sendall(line.encode() + b"\n")
        except _GONE:
            where = self.runner.host
            raise LabError(f"{where}: `{self._shown}` has ended; cannot send {line!r}") from None

    def close_input(self) -> None:
        """See Process."""
        with contextlib.suppress(*_GONE):
            self._channel.shutdown_write()

    def kill(self) -> None:
        """See Process."""
        self._started.wait(5.0)
        if self._pid is not None and self.poll() is None:
            self.runner.run(["kill", "-9", str(self._pid)], check=False)
            self.wait(10.0)


class SshRunner:
    """Runs commands in one guest over one SSH connection; see lab.commands.Runner."""

    def __init__(self, host: str, transport: paramiko.Transport) -> None:
        self.host, self._transport = host, transport

    @classmethod
    def connect(
        cls, host: str, namespace_pid: int, address: str, keys: Keys, *, seconds: float
    ) -> SshRunner:
        """Connect to `address`:22 from the network namespace of `namespace_pid`.

        Tries for `seconds`, then raises WaitTimeout with the last error. Raises LabError if the
        guest has another host key than this run gave it.
        """
        attempt = partial(cls._attempt, host, address, keys)
        found = in_network_of(
            namespace_pid,
            lambda: wait_for(
                f"SSH to {host}",
                attempt,
                until=lambda got: isinstance(got, SshRunner),
                seconds=seconds,
                every=0.01,
            ),
        )
        assert isinstance(found, SshRunner)
        return found

    @classmethod
    def _attempt(cls, host: str, address: str, keys: Keys) -> SshRunner | str:
        """A connection, or the reason why there is none."""
        try:
            sock = socket.create_connection((address, 22), timeout=0.5)
        except OSError as refused:
            return str(refused)
        sock.settimeout(None)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = paramiko.Transport(sock)
        transport.banner_timeout = 10.0
        try:
            transport.start_client(timeout=10.0)
            shown = transport.get_remote_server_key()
            if shown.asbytes() != keys.host_blob:
                raise LabError(f"{host}: its SSH host key is not this run's")
            transport.auth_publickey("root", keys.client)
        except _GONE as refused:
            transport.close()
            return str(refused)
        return cls(host, transport)

    def open_channel(self) -> paramiko.Channel:
        """A new session channel; raises LabError if the guest is gone."""
        try:
            return self._transport.open_session(timeout=15.0)
        except _GONE as gone:
            raise LabError(f"{self.host}: the SSH connection is lost ({gone})") from None

    def run(
        self,
        argv: Sequence[str],
        *,
        seconds: float = 30.0,
        stdin: str | None = None,
        check: bool = True,
    ) -> Result:
        """See lab.commands.Runner."""
        deadline = time.monotonic() + seconds
        output, errors = bytearray(), bytearray()
        shown = shlex.join(argv)
        with self.open_channel() as channel:
            # Read while it runs: a full window would stop the command.
            takers = [
                threading.Thread(target=_take, args=(read, into), daemon=True)
                for read, into in ((channel.recv, output), (channel.recv_stderr, errors))
            ]
            try:
                channel.settimeout(seconds)
                channel.exec_command(shown)
                for taker in takers:
                    taker.start()
                if stdin is not None:
                    channel.sendall(stdin.encode())
                channel.shutdown_write()
            except _GONE as gone:
                raise LabError(f"{self.host}: lost while running `{shown}` ({gone})") from None
            if not channel.status_event.wait(max(0.0, deadline - time.monotonic())):
                text = bytes(output + errors).decode(errors="replace")
                raise CommandFailed(self.host, argv, None, text)
            for taker in takers:
                taker.join(max(0.1, deadline - time.monotonic()))
            status = channel.recv_exit_status()
        text = output.decode(errors="replace")
        if status == -1:
            raise LabError(f"{self.host}: lost while running `{shown}`")
        if check and status:
            raise CommandFailed(self.host, argv, status, text + errors.decode(errors="replace"))
        return Result(status, text)

    def start(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        on_line: OnLine | None = None,
        env: Mapping[str, str] | None = None,
    ) -> SshProcess:
        """See lab.commands.Runner."""
        if env:
            argv = ["env", *(f"{name}={value}" for name, value in env.items()), *argv]
        return SshProcess(self, argv, log, on_line)

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(Exception):
            self._transport.close()
