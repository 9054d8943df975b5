"""The second initiator: libiscsi, in a host that is a network namespace and has no kernel.

libiscsi is a library and needs a program: QEMU's block layer, as for the disk of a virtual machine.
One qemu-nbd per login keeps the disk open and exports it at a UNIX socket, where the load writes
(lab/host/nbd.py). libiscsi's own tools do discovery and read the disk's identity.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from lab.array.access import Secrets
from lab.commands import LocalProcess, LocalRunner, require
from lab.errors import BadInput, CommandFailed, LabError, Missing, WaitTimeout
from lab.host.initiator import Disk, Kind, Seat, Session
from lab.host.nbd import NbdDisk
from lab.observe.conversation import ASIDE
from lab.portal import Portal
from lab.timeline import Timeline
from lab.topology.topology import initiator_name
from lab.waiting import wait_for
from targets.base import ChapAccount

LOGIN_SECONDS = 60.0
_SERIAL = re.compile(r"Unit Serial Number:\[(.*)\]")
_PORTAL = re.compile(r"^Target:\S+ Portal:(\S+),\d+$", re.MULTILINE)
_SERIAL_PAGE = 0x80  # SPC-4, 7.8.15
_PROVING = """
IFS= read -r LIBISCSI_CHAP_USERNAME
IFS= read -r LIBISCSI_CHAP_PASSWORD
export LIBISCSI_CHAP_USERNAME LIBISCSI_CHAP_PASSWORD
exec "$@"
"""
"""Secrets come on standard input: error messages show argument lists."""


def require_libiscsi() -> None:
    """Raise Missing, with the Debian package, if QEMU's libiscsi or the tools are missing."""
    require("iscsi-ls", "libiscsi-bin")
    qemu = require("qemu-nbd", "qemu-utils")
    # It fails either way: the driver (a module) is missing, or the portal option is.
    asked = [qemu, "--image-opts", "driver=iscsi"]
    said = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False).stderr
    if "Unknown driver" in said:
        raise Missing("qemu has no iSCSI here; install it: sudo apt-get install qemu-block-extra")


@dataclass(frozen=True)
class _Opened:
    """A disk that a qemu-nbd holds open."""

    number: int
    target: str
    portal: str
    process: LocalProcess

    @property
    def device(self) -> str:
        return f"nbd{self.number}"


class Libiscsi:
    """libiscsi in the network namespace of `runner`, for one disk of each target.

    `luns`: target name to the LUN of that disk. `work`: the folder for sockets. A Session is one
    disk that a qemu-nbd holds open, with a running number as `sid`; it lives until the qemu-nbd
    ends. libiscsi repairs a broken connection below it, by a login with a new ISID.
    """

    relogin_ms = 30_000.0
    """A NOP-Out each 5 s; after three without an answer a reconnect instead of the fourth
    (block/iscsi.c of QEMU), so up to 20 s. Before each further try libiscsi waits 1 s more
    (lib/connect.c)."""

    def __init__(
        self,
        runner: LocalRunner,
        timeline: Timeline,
        logs: Path,
        work: Path,
        luns: Mapping[str, int],
    ) -> None:
        self._runner, self._timeline, self._logs = runner, timeline, logs
        self._work, self._luns = work, luns
        self.name = runner.host
        self._disks: list[_Opened] = []
        self._opened = 0
        self._known = Secrets()

    @property
    def _iqn(self) -> str:
        return initiator_name(self.name)

    def start(self) -> None:
        """See Initiator: nothing runs before a login."""

    def learn(self, known: Secrets) -> None:
        """See Initiator; raises BadInput for mutual CHAP, which QEMU cannot ask for."""
        if known.mutual:
            raise BadInput(f"{self.name}: libiscsi in QEMU does not support mutual CHAP")
        self._known = known
        if known.login:
            self._secret.touch(0o600)
            self._secret.write_text(known.login.secret)

    @property
    def _secret(self) -> Path:
        return self._work / f"{self.name}-secret"

    def discover(self, portal: str) -> list[str]:
        """See Initiator; by iscsi-ls."""
        url = f"iscsi://{Portal.parse(portal)!s}"
        shown = self._reach(["iscsi-ls", "-i", self._iqn, url], self._known.discovery)
        portals = _PORTAL.findall(shown)
        self._timeline.add(self.name, "discovery", asked=portal, portals=portals)
        return portals

    def _reach(self, argv: list[str], account: ChapAccount | None) -> str:
        """The output of a tool; WaitTimeout if the tool fails."""
        began, told, proving = time.monotonic(), "", list[str]()
        if account:
            proving = ["sh", "-c", _PROVING, "sh"]
            told = f"{account.user}\n{account.secret}\n"
        try:
            return self._runner.run([*proving, *argv], stdin=told).output
        except CommandFailed as failed:
            what, took = f"{self.name}: `{' '.join(argv)}`", round(time.monotonic() - began, 1)
            raise WaitTimeout(what, took, failed.output.strip()) from None

    def login(self, target: str, portal: str) -> Session:
        """See Initiator; starts a qemu-nbd that opens the disk, with its log in the run folder."""
        self._opened += 1
        asked = str(Portal.parse(portal))
        device = f"nbd{self._opened}"
        options = {
            "driver": "iscsi", "transport": "tcp", "portal": asked, "target": target,
            "lun": self._luns[target], "initiator-name": self._iqn,
        }  # fmt: skip
        secret = []
        if self._known.login:
            secret = ["--object", f"secret,id=chap,file=/proc/self/cwd/{self._secret.name}"]
            options |= {"user": self._known.login.user, "password-secret": "chap"}
        # A socket's path has at most 107 bytes, but a run folder's may be longer; qemu-nbd wants
        # an absolute path.
        process = self._runner.start(
            [
                *("env", f"--chdir={self._work}", "qemu-nbd", "--persistent", "--cache=none"),
                *(*secret, "--socket", f"/proc/self/cwd/{self.name}-{device}", "--image-opts"),
                ",".join(f"{key}={value}" for key, value in options.items()),
            ],
            log=self._log,
        )
        disk = _Opened(self._opened, target, asked, process)
        try:
            self._await_opened(disk)
        except BaseException:
            process.kill()
            raise
        self._disks.append(disk)
        return self._session(disk)

    @property
    def _log(self) -> Path:
        return self._logs / f"{self.name}-qemu-nbd.log"

    def _await_opened(self, disk: _Opened) -> None:
        what, began = f"{self.name} to log in at {disk.portal}", time.monotonic()

        def look() -> bool:
            if disk.process.poll() is not None:
                tail = self._log.read_text(errors="replace")[-1000:]
                raise WaitTimeout(what, round(time.monotonic() - began, 1), tail.strip())
            # The socket exists at once, but qemu-nbd greets no client before the disk is open.
            with contextlib.suppress(OSError):
                socket = f"/proc/self/fd/{folder}/{self.name}-{disk.device}"
                NbdDisk(socket, seconds=LOGIN_SECONDS).close()
                return True
            return False

        folder = os.open(self._work, os.O_PATH)
        try:
            wait_for(what, look, seconds=LOGIN_SECONDS)
        finally:
            os.close(folder)

    def sessions(self) -> list[Session]:
        """See Initiator; `state` is LOGGED_IN while qemu-nbd has a TCP connection to a portal."""
        return [self._session(disk) for disk in self._disks]

    def _session(self, disk: _Opened) -> Session:
        connection = self._connection(disk)
        current = connection.rpartition(" ")[2]
        serial, size = self._identity(disk, current) if current else ("", 0)
        return Session(
            disk.number, disk.target, "LOGGED_IN" if current else "FAILED", current, disk.portal,
            disk.device, serial, size, connection,
            disks=(Disk(self._luns[disk.target], disk.device, size, serial),),
        )  # fmt: skip

    def _connection(self, disk: _Opened) -> str:
        shown = self._runner.run(["ss", "-tnpH", "state", "established"]).output
        ours = [line for line in shown.splitlines() if f"pid={disk.process.pid}," in line]
        ends = [[str(Portal.parse(end)) for end in line.split()[2:4]] for line in ours]
        return " ".join(ends[0]) if ends else ""

    def _identity(self, disk: _Opened, portal: str) -> tuple[str, int]:
        """Serial number and size (bytes) of the disk, read at `portal`, which serves it now.

        QEMU shows neither. Each is read by an extra session, with another initiator name.
        """
        url = f"iscsi://{portal}/{disk.target}/{self._luns[disk.target]}"
        ask = ["-i", self._iqn + ASIDE, url]
        account = self._known.login
        page = self._reach(["iscsi-inq", "-e", "1", "-c", str(_SERIAL_PAGE), *ask], account)
        found = _SERIAL.search(page)
        if not found:
            raise LabError(f"{self.name}: no serial number in what iscsi-inq printed: {page}")
        size = self._reach(["iscsi-readcapacity16", "-s", *ask], account)
        return found[1].strip(), int(size)

    def writer(self, session: Session) -> list[str]:
        """See Initiator."""
        module = [sys.executable, "-m", "lab.host.nbd"]
        return ["env", f"--chdir={self._work}", *module, f"{self.name}-{session.device}"]

    def logout(self, target: str) -> None:
        """See Initiator."""
        for disk in [d for d in self._disks if d.target == target]:
            disk.process.popen.terminate()
            disk.process.wait(30.0)
            self._disks.remove(disk)

    def kill(self) -> None:
        """See Initiator: SIGKILL every qemu-nbd."""
        for disk in self._disks:
            disk.process.kill()


def _make(seat: Seat) -> Libiscsi:
    runner = cast(LocalRunner, seat.runner)  # as `own_kernel` promises
    return Libiscsi(runner, seat.timeline, seat.folder.logs, seat.folder.work, seat.luns)


def _versions(_image: Mapping[str, str]) -> dict[str, str]:
    """The versions of libiscsi and QEMU on this machine."""
    here = LocalRunner("this machine")
    found = {"libiscsi": "unknown"}
    with contextlib.suppress(LabError):  # not a Debian system
        shown = here.run(["dpkg-query", "-W", "-f", "${Version}\n", "libiscsi[0-9]*"]).output
        found["libiscsi"] = shown.split()[0]
    return {**found, "qemu": here.run(["qemu-nbd", "-V"]).output.split()[1]}


KIND = Kind(_make, own_kernel=False, versions=_versions, require=require_libiscsi)
