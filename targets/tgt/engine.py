"""The tgt engine: one tgtd in the array's network namespace, steered by tgtadm."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from lab.commands import Process, Runner, require
from lab.errors import BadInput, CommandFailed, LabError
from lab.portal import Portal
from lab.waiting import wait_for
from targets.base import (
    ChapAccount,
    Place,
    TargetSpec,
    check_accounts,
    check_target,
    make_sparse,
)
from targets.engines import Kind
from targets.front.native import NativeFront
from targets.tgt.tgtadm import SOCKET, Tgtadm

_PORTAL = re.compile(r"^Portal: (\S+),\d+$", re.MULTILINE)


class Tgt:
    """A tgtd with its configuration, which is set again after a restart.

    `runner` is the array's network namespace, where the loopback interface must be up for
    `local_portal` to be reached. Control socket and lock live in a directory of its own under
    `work_dir`, the log in `log_dir`.
    """

    name = "tgt"

    def __init__(
        self, runner: Runner, work_dir: Path, log_dir: Path, control_number: int = 1
    ) -> None:
        self._runner = runner
        self._tgtd = require("tgtd", "tgt")
        self._number = control_number
        self._dir = work_dir.absolute() / f"tgtd-{control_number}"
        self.log = log_dir / f"tgtd-{control_number}.log"
        self._process: Process | None = None
        self._local_portal = "127.0.0.1:0"
        self._targets: list[TargetSpec] = []
        self._portals: list[str] = []
        self._parameters: dict[tuple[str, str], str] = {}
        self._discovery: ChapAccount | None = None
        self._call = Tgtadm(runner.host, self._dir, control_number)

    @property
    def local_portal(self) -> str:
        """See TargetEngine: on the loopback interface of the array, at a port of its own."""
        return self._local_portal

    def start(self) -> None:
        """See TargetEngine; LabError with the end of its log if tgtd does not come up."""
        try:
            self._dir.mkdir(parents=True)
        except FileExistsError:
            raise LabError(f"{self._runner.host}: {self._dir} is in use by another tgtd") from None
        self.log.parent.mkdir(parents=True, exist_ok=True)
        # Without a portal, or with one it cannot have, tgtd listens at every address of the array.
        # With port 0 it takes a free port.
        try:
            self._process = self._runner.start(
                [
                    *("env", f"--chdir={self._dir}", f"TGT_IPC_SOCKET={SOCKET}"),
                    *(self._tgtd, "-f", f"-C{self._number}"),
                    *("--iscsi", f"portal={self._local_portal}"),
                ],
                log=self.log,
            )
            portals = wait_for(
                f"tgtd {self._number} to answer", self._first_portals, seconds=10, every=0.003
            )
            if len(portals) != 1 or Portal.parse(portals[0]).address != "127.0.0.1":
                raise LabError(self._story(f"it listens at {portals}, not on loopback"))
        except BaseException:
            self.kill()
            shutil.rmtree(self._dir, ignore_errors=True)
            raise
        self._local_portal = portals[0]

    def _first_portals(self) -> list[str]:
        """The portals of tgtd; none as long as it does not answer."""
        assert self._process
        if self._process.poll() is not None:
            raise LabError(self._story(f"it ended with status {self._process.poll()}"))
        if not (self._dir / f"{SOCKET}.{self._number}").exists():
            return []
        # The socket exists a moment before tgtd listens on it.
        with contextlib.suppress(CommandFailed):
            return _PORTAL.findall(self._call("portal", "show"))
        return []

    def _story(self, what: str) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        end = "\n  ".join(lines[-10:]) or "(its log is empty)"
        return f"{self._runner.host}: tgtd {self._number}: {what}\n  {end}"

    def create(self, target: TargetSpec) -> None:
        """See TargetEngine; makes a sparse file for each disk that has none."""
        check_target(target)
        if target.iqn in self._iqns():
            raise BadInput(f"target {target.iqn}: exists already")
        known = {a.user: a.secret for t in self._targets for a in t.accounts}
        if self._discovery:
            known[self._discovery.user] = self._discovery.secret
        for account in target.accounts:
            if known.get(account.user, account.secret) != account.secret:
                raise BadInput(f"target {target.iqn}: CHAP name {account.user} has another secret")
        for lun in target.luns:
            make_sparse(lun)
        self._targets.append(target)
        try:
            self._create(target)
        except LabError:
            self._targets.remove(target)
            with contextlib.suppress(LabError):
                self._call("target", "delete", "--force", f"--tid={len(self._targets) + 1}")
            raise

    def _create(self, target: TargetSpec) -> None:
        tid = f"--tid={self._tid(target.iqn)}"
        self._call("target", "new", tid, f"--targetname={target.iqn}")
        for lun in target.luns:
            where = (tid, f"--lun={lun.number}")
            self._call("logicalunit", "new", *where, f"--backing-store={lun.path.absolute()}")
            identity = f"scsi_id={lun.scsi_id},scsi_sn={lun.serial}"
            self._call("logicalunit", "update", *where, f"--params={identity}")
        for account in target.accounts:
            self._bind(account, tid)
        # tgtd admits a host that matches either list, so a name has an effect only without "ALL".
        for name in target.initiators:
            self._call("target", "bind", tid, f"--initiator-name={name}")
        if not target.initiators:
            self._call("target", "bind", tid, "--initiator-address=ALL")

    def _bind(self, account: ChapAccount, *tid: str) -> None:
        user = f"--user={account.user}"
        if account.user not in self._call("account", "show").split():
            self._call.new_account(account.user, account.secret)
        self._call("account", "bind", *tid, user, *(["--outgoing"] if account.mutual else []))

    def protect_discovery(self, account: ChapAccount) -> None:
        """See TargetEngine."""
        check_accounts("discovery", (account,))
        self._bind(account)
        self._discovery = account

    def expose(self, portal: str) -> None:
        """See TargetEngine."""
        spelled = str(Portal.parse(portal))
        if spelled in self._portals:
            raise BadInput(f"portal {spelled}: is exposed already")
        try:
            self._call("portal", "new", f"--param=portal={spelled}")
        except CommandFailed as failed:
            raise LabError(
                f"{self._runner.host}: tgtd cannot listen at {spelled}; is the address there, "
                f"and past IPv6's duplicate address detection? ({failed.output.strip()})"
            ) from None
        self._portals.append(spelled)

    def set_parameter(self, iqn: str, name: str, value: str) -> None:
        """See TargetEngine; BadInput for a name or value that tgtd refuses."""
        try:
            self._update(iqn, name, value)
        except CommandFailed as failed:
            reason = failed.output.strip()
            raise BadInput(f"target {iqn}: {name}={value}: refused by tgtd: {reason}") from None
        self._parameters[iqn, name] = value

    def redirect(self, iqn: str, portal: str | None, *, permanent: bool = False) -> None:
        """See RedirectsNatively. Takes three calls; a login between them gets the old answer."""
        to = Portal.parse(portal) if portal else None
        values = {
            # The reason last: an address is used only with a reason.
            "RedirectPort": str(to.port if to else 0),
            "RedirectAddress": to.host if to else "",
            "RedirectReason": "Permanent" if permanent else "Temporary",
        }
        for name, value in values.items():
            self._update(iqn, name, value)
            self._parameters[iqn, name] = value

    def _update(self, iqn: str, name: str, value: str) -> None:
        tid = f"--tid={self._tid(iqn)}"
        self._call("target", "update", tid, f"--name={name}", f"--value={value}")

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """See KillableDaemon."""
        if self._process:
            self._process.kill()
            self._process = None
            shutil.rmtree(self._dir, ignore_errors=True)

    def restart(self) -> None:
        """See KillableDaemon."""
        self.start()
        if self._discovery:
            self._bind(self._discovery)
        for target in self._targets:
            self._create(target)
        for (iqn, name), value in self._parameters.items():
            self._update(iqn, name, value)
        portals, self._portals = self._portals, []
        for portal in portals:
            self.expose(portal)

    def version(self) -> str:
        """See TargetEngine."""
        return self._runner.run([self._tgtd, "--version"]).output.strip()

    def stop(self) -> None:
        """See TargetEngine; by SIGKILL, as tgtd ignores SIGTERM while it has targets."""
        self.kill()
        self._targets, self._portals, self._discovery = [], [], None
        self._parameters = {}

    def _iqns(self) -> list[str]:
        return [target.iqn for target in self._targets]

    def _tid(self, iqn: str) -> int:
        if iqn not in self._iqns():
            raise BadInput(f"target {iqn}: unknown; there are {self._iqns() or 'none'}")
        return self._iqns().index(iqn) + 1


def _make(place: Place, logs: Path, store: str) -> Tgt:
    if store:
        raise BadInput(f"store {store!r}: tgt keeps disks in files only; take --target lio")
    return Tgt(place.runner, place.folder, logs, control_number=1)


def _front(place: Place, logs: Path, parameters: Mapping[str, str]) -> NativeFront:
    return NativeFront(Tgt(place.runner, place.folder, logs, control_number=0), parameters)


KIND = Kind(
    _make,
    _front,
    abilities=frozenset(
        {"hides-targets", "kill", "redirects", "refuses-to-prove", "reservations-end-with-session"}
    ),
)
