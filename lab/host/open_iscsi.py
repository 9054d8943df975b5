"""open-iscsi, in a host with its own kernel."""

from __future__ import annotations

import ipaddress
import re
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from lab.array.access import Secrets
from lab.commands import Process, Runner
from lab.errors import CommandFailed, LabError, WaitTimeout
from lab.host.initiator import Disk, Kind, Seat, Session
from lab.portal import Portal
from lab.timeline import Timeline
from lab.topology.topology import initiator_name
from lab.waiting import wait_for
from targets.base import ChapAccount

_NOT_REACHED = {4, 5, 8, 11, 19, 24}
"""Exit statuses of iscsiadm that mean no login at the array, not a broken host: transport, login,
their time-outs, refused, authentication (open-iscsi, iscsi_err.h)."""
_ISCSID_SOCKET = "@ISCSIADM_ABSTRACT_NAMESPACE"  # usr/mgmt_ipc.h of open-iscsi


class OpenIscsi:
    """open-iscsi: iscsid and iscsiadm in a guest; its kernel's sysfs shows the sessions."""

    relogin_ms = 20_000.0
    """NOP-Out interval and timeout 5 s each, Time2Wait 2 s, one retry after 3 s."""

    def __init__(self, runner: Runner, timeline: Timeline, logs: Path) -> None:
        self._runner, self._timeline, self._logs = runner, timeline, logs
        self.name = runner.host
        self._daemon: Process | None = None

    def start(self) -> None:
        """Start iscsid, with its log in the run folder, and wait until it listens."""
        name = f"InitiatorName={initiator_name(self.name)}"
        begin = (
            f"echo {name} > /etc/iscsi/initiatorname.iscsi; modprobe -a iscsi_tcp sd_mod; "
            "exec /usr/sbin/iscsid -f -d 3"
        )
        self._daemon = self._runner.start(
            ["sh", "-c", begin], log=self._logs / f"{self.name}-iscsid.log"
        )
        wait_for(
            f"iscsid of {self.name}",
            lambda: self._runner.run(["cat", "/proc/net/unix"]).output,
            until=lambda table: _ISCSID_SOCKET in table,
            seconds=15.0,
        )

    def configure(self, name: str, value: str) -> None:
        """Set `name` in /etc/iscsi/iscsid.conf; valid for targets discovered from now on."""
        self._configure({name: value})

    def _configure(self, settings: Mapping[str, str]) -> None:
        # On standard input, because error messages show argument lists: settings may be secrets.
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        self._runner.run(["sh", "-c", "cat >> /etc/iscsi/iscsid.conf"], stdin=lines)

    def learn(self, known: Secrets) -> None:
        """See Initiator.

        iscsiadm copies these settings to its records, in the memory of the host.
        """
        settings = _chap("discovery.sendtargets.auth", known.discovery, None)
        settings |= _chap("node.session.auth", known.login, known.mutual)
        if settings:
            self._configure(settings)

    def freeze(self) -> None:
        """Stop iscsid: sessions go on in the kernel, but Async Messages get no answer."""
        self._runner.run(["sh", "-c", "kill -STOP $(pidof iscsid)"])

    def thaw(self) -> None:
        """Let iscsid go on."""
        self._runner.run(["sh", "-c", "kill -CONT $(pidof iscsid)"])

    def discover(self, portal: str) -> list[str]:
        """See Initiator."""
        shown = self._iscsiadm("-m", "discovery", "-t", "st", "-p", portal)
        portals = [line.split(",")[0] for line in shown.splitlines() if "," in line]
        self._timeline.add(self.name, "discovery", asked=portal, portals=portals)
        return portals

    def login(self, target: str, portal: str) -> Session:
        """See Initiator."""
        self._iscsiadm("-m", "node", "-T", target, "-p", portal, "--login", seconds=60.0)
        wanted = str(Portal.parse(portal))
        ours = wait_for(
            f"a session of {self.name} with its disk",
            lambda: [s for s in self.sessions() if s.target == target and s.persistent == wanted],
            until=lambda found: any(s.device for s in found),
            seconds=15.0,
        )
        return next(s for s in ours if s.device)

    def logout(self, target: str) -> None:
        """See Initiator."""
        self._iscsiadm("-m", "node", "-T", target, "--logout", seconds=60.0)

    def _iscsiadm(self, *arguments: str, seconds: float = 30.0) -> str:
        argv = ["iscsiadm", *arguments]
        if self._daemon and self._daemon.poll() is not None:
            raise LabError(f"{self.name}: iscsid has ended; see logs/{self.name}-iscsid.log")
        began = time.monotonic()
        try:
            return self._runner.run(argv, seconds=seconds).output
        except CommandFailed as failed:
            if failed.status in _NOT_REACHED:
                what, took = f"{self.name}: `{' '.join(argv)}`", round(time.monotonic() - began, 1)
                raise WaitTimeout(what, took, failed.output.strip()) from None
            raise

    def sessions(self) -> list[Session]:
        """See Initiator."""
        return parse_sessions(self._runner.run(["sh", "/run/lab/sessions"]).output)

    def writer(self, session: Session) -> list[str]:
        """See Initiator; a program of the guest."""
        return ["python3", "/run/lab/writer.py", f"/dev/{session.device}"]

    def kill(self) -> None:
        """See Initiator: nothing to do, all of it runs in the guest."""


def _chap(prefix: str, ours: ChapAccount | None, theirs: ChapAccount | None) -> dict[str, str]:
    """open-iscsi's settings for the account of the host, and for that of the target."""
    if ours is None:
        return {}
    found = {"authmethod": "CHAP", "username": ours.user, "password": ours.secret}
    if theirs:
        found |= {"username_in": theirs.user, "password_in": theirs.secret}
    return {f"{prefix}.{name}": value for name, value in found.items()}


def parse_sessions(text: str) -> list[Session]:
    """The output of the guest program `sessions` as Session objects, lowest number first.

    Raises LabError with the text if it cannot be parsed.
    """
    try:
        return _parse(text)
    except (ValueError, struct.error) as wrong:
        raise LabError(f"the list of sessions cannot be read ({wrong}): {text[:600]}") from None


def _parse(text: str) -> list[Session]:
    disks: dict[str, list[Disk]] = {}
    connections: dict[tuple[str, str], str] = {}
    rows: list[list[str]] = []
    for line in text.splitlines():
        kind, _, rest = line.partition("|")
        if kind == "session":
            rows.append(rest.split("|"))
        elif kind == "disk":
            number, lun, device, sectors, serial = rest.split("|")
            disks.setdefault(number, []).append(Disk(int(lun), device, int(sectors) * 512, serial))
        elif kind == "tcp":
            match = re.match(
                r"\s*\d+: ([0-9A-F]+):([0-9A-F]{4}) ([0-9A-F]+):([0-9A-F]{4}) 01 ", rest
            )
            if match:
                local, peer = _portal(match[1], match[2]), _portal(match[3], match[4])
                # Two sessions may have the same peer: only the local port tells them apart.
                for own in ("0", str(int(match[2], 16))):
                    connections[own, peer] = f"{local} {peer}"
    found = []
    for number, target, state, address, port, kept, kept_port, own in rows:
        current, persistent = _known_portal(address, port), _known_portal(kept, kept_port)
        mine = tuple(sorted(disks.get(number, [])))
        first = mine[0] if mine else Disk(0, "", 0, "")
        found.append(
            Session(
                int(number), target, state, current, persistent, first.device, first.serial,
                first.size_bytes, connections.get((own or "0", current), ""), mine,
            )
        )  # fmt: skip
    return sorted(found, key=lambda session: session.sid)


def _known_portal(address: str, port: str) -> str:
    # The kernel shows "(null)" for both while a session comes up, and for `current` in recovery.
    try:
        return str(Portal(str(ipaddress.ip_address(address.strip("[]"))), int(port)))
    except ValueError:
        return ""


def _portal(address: str, port: str) -> str:
    # /proc/net/tcp prints each 32-bit word of an address in the byte order of the machine.
    words = [int(address[i : i + 8], 16) for i in range(0, len(address), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return str(Portal(str(ipaddress.ip_address(packed)), int(port, 16)))


def _make(seat: Seat) -> OpenIscsi:
    return OpenIscsi(seat.runner, seat.timeline, seat.folder.logs)


def _versions(image: Mapping[str, str]) -> dict[str, str]:
    return {"open-iscsi": image.get("open-iscsi", "unknown")}


KIND = Kind(_make, own_kernel=True, versions=_versions)
