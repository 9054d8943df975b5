"""The second initiator: libiscsi, in a host that is a network namespace and has no kernel.

libiscsi is a library, so that it needs a program: QEMU's block layer, as under a virtual machine's
disk. One qemu-nbd for each login keeps the disk open and offers it at a UNIX socket, where the load
writes (lab/host/nbd.py). Discovery and the disk's identity are asked by libiscsi's own tools.
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
"""Secrets on standard input, for argument lists are shown where they fail."""


def require_libiscsi() -> None:
    """Raise Missing, naming the Debian package, where QEMU with libiscsi or its tools are not."""
    require("iscsi-ls", "libiscsi-bin")
    qemu = require("qemu-nbd", "qemu-utils")
    # It refuses either way: for want of the driver, which is a module, or of a portal.
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

    Its number, for the target's name, is in `luns`.

    What the kernel is to open-iscsi, the disk that QEMU holds open is here: a Session is one
    opening, with its number for `sid`, and lives until qemu-nbd ends. libiscsi repairs a broken
    connection beneath it, by a login with a new ISID. `work` is for the sockets.
    """

    relogin_ms = 30_000.0
    """A NOP-Out each 5 s, and reconnecting instead of the fourth while three are unanswered
    (block/iscsi.c of QEMU), so up to 20 s; libiscsi waits before each further try, 1 s more each
    time (lib/connect.c)."""

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
        """There is nothing to start before a login."""

    def learn(self, known: Secrets) -> None:
        """See Initiator; raises BadInput for a proof of the target's, which QEMU cannot want."""
        if known.mutual:
            raise BadInput(f"{self.name}: libiscsi in QEMU wants no proof of a target")
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
        """The output of a tool; WaitTimeout where it could not have what it wants of the array."""
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
        # A socket's path may have 107 bytes, a run folder's more; and qemu-nbd wants it absolute.
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
            # The socket is there at once, but nobody is greeted before the disk is open.
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
        """Serial number and size of the disk behind `portal`, which serves it at this moment.

        QEMU shows neither, so that each is asked by a session of its own, under another name.
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
        """The command that writes to the disk of `session`; its arguments go on from there."""
        module = [sys.executable, "-m", "lab.host.nbd"]
        return ["env", f"--chdir={self._work}", *module, f"{self.name}-{session.device}"]

    def logout(self, target: str) -> None:
        """See Initiator."""
        for disk in [d for d in self._disks if d.target == target]:
            disk.process.popen.terminate()
            disk.process.wait(30.0)
            self._disks.remove(disk)

    def kill(self) -> None:
        """See Initiator; SIGKILL to every qemu-nbd: the disks they had open are gone."""
        for disk in self._disks:
            disk.process.kill()


def _make(seat: Seat) -> Libiscsi:
    runner = cast(LocalRunner, seat.runner)  # as `own_kernel` promises
    return Libiscsi(runner, seat.timeline, seat.folder.logs, seat.folder.work, seat.luns)


def _versions(_image: Mapping[str, str]) -> dict[str, str]:
    """The versions of libiscsi and QEMU on this machine."""
    here = LocalRunner("this machine")
    found = {"libiscsi": "unknown"}
    with contextlib.suppress(LabError):  # where packages are not Debian's
        shown = here.run(["dpkg-query", "-W", "-f", "${Version}\n", "libiscsi[0-9]*"]).output
        found["libiscsi"] = shown.split()[0]
    return {**found, "qemu": here.run(["qemu-nbd", "-V"]).output.split()[1]}


KIND = Kind(_make, own_kernel=False, versions=_versions, require=require_libiscsi)
