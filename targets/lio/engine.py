"""The LIO engine: the target of the Linux kernel, in the array's own kernel.

A small agent in that kernel (targets/lio/agent.py) configures LIO through rtslib-fb.
"""

from __future__ import annotations

import json
import queue
from pathlib import Path
from typing import Any, cast

from lab.commands import Process
from lab.errors import BadInput, LabError
from lab.portal import Portal
from targets.base import (
    ChapAccount,
    KernelPlace,
    LogicalUnit,
    Place,
    TargetSpec,
    check_accounts,
    check_target,
    make_sparse,
)
from targets.engines import Kind

STORES = ("block", "file-write-back", "file-write-through", "file-lying")
ANSWER_SECONDS = 30.0
MEMORY_BYTES = 1 << 20


class Lio:
    """LIO with its configuration, which is set again after a power cut.

    `store` is how it keeps disks. "block": every command goes to the disk. "file-write-back": a
    cache that a power cut loses and a flush command writes. "file-write-through": no cache.
    "file-lying": a cache that it does not report, for negative controls. APTPL reservations (SPC-4,
    5.12.5) are on a small private disk of the array.
    """

    name = "lio"
    local_portal = "127.0.0.1:3260"

    def __init__(self, place: KernelPlace, log_dir: Path, store: str = "block") -> None:
        if store not in STORES:
            raise BadInput(f"store {store!r}: LIO has {', '.join(STORES)}")
        self._place, self._store = place, store
        self.log = log_dir / "lio.log"
        self._agent: Process | None = None
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._targets: list[TargetSpec] = []
        self._portals: list[str] = []
        self._devices: dict[Path, str] = {}
        self._parameters: dict[tuple[str, str], str] = {}
        self._discovery: ChapAccount | None = None
        self._version = ""
        self._memory = ""

    def start(self) -> None:
        """See TargetEngine; LabError with the end of its log if LIO cannot be loaded."""
        if self._agent:
            raise LabError(f"{self._place.runner.host}: LIO runs already")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._answers = queue.SimpleQueue()
        if not self._memory:
            with self._place.memory.open("wb") as file:
                file.truncate(MEMORY_BYTES)
            self._memory = self._place.plug(self._place.memory)
        self._agent = self._place.start_module(
            "targets.lio.agent", self._memory, log=self.log, on_line=self._hear, isolated=False
        )
        try:
            self._version = str(self._answer()["version"])
        except LabError:
            self._agent.kill()
            self._agent = None
            raise

    def _hear(self, line: str) -> None:
        self._answers.put(json.loads(line))

    def _answer(self) -> dict[str, Any]:
        assert self._agent
        for _ in range(int(ANSWER_SECONDS / 0.5)):
            try:
                return self._answers.get(timeout=0.5)
            except queue.Empty:
                if self._agent.poll() is not None:
                    break
        lines = self.log.read_text(errors="replace").splitlines()[-10:] if self.log.exists() else []
        end = "\n  ".join(lines) or "(its log is empty)"
        raise LabError(f"{self._place.runner.host}: LIO's agent does not answer\n  {end}")

    def _ask(self, do: str, **arguments: Any) -> Any:
        if not self._agent:
            raise LabError(f"{self.name}: does not run")
        self._agent.send(json.dumps({"do": do, **arguments}))
        answer = self._answer()
        if "error" in answer:
            raise LabError(f"{self.name}: {do} {arguments.get('iqn', '')}: {answer['error']}")
        return answer["ok"]

    def create(self, target: TargetSpec) -> None:
        """See TargetEngine; plugs a disk for each LUN into the array's kernel."""
        check_target(target)
        if target.iqn in self._iqns():
            raise BadInput(f"target {target.iqn}: exists already")
        _credentials(f"target {target.iqn}", target.accounts)
        plugged: list[Path] = []
        try:
            for lun in target.luns:
                make_sparse(lun)
                if lun.path not in self._devices:
                    self._devices[lun.path] = self._place.plug(lun.path)
                    plugged.append(lun.path)
            self._create(target)
        except LabError:
            for path in plugged:
                self._place.unplug(self._devices.pop(path))
            raise
        self._targets.append(target)
        self._listen(target.iqn, self.local_portal)
        for portal in self._portals:
            self._listen(target.iqn, portal)

    def _create(self, target: TargetSpec) -> None:
        self._ask(
            "create",
            iqn=target.iqn,
            luns=[self._described(lun) for lun in target.luns],
            credentials=_credentials(f"target {target.iqn}", target.accounts),
            initiators=list(target.initiators),
        )

    def _described(self, lun: LogicalUnit) -> dict[str, Any]:
        # LIO makes both pages from the unit serial number: page 0x80 is all of it, the NAA
        # designator of 0x83 its first 25 hexadecimal digits (spc_gen_naa_6h_vendor_specific).
        return {
            "number": lun.number,
            "device": self._devices[lun.path],
            "serial": f"{lun.scsi_id}-{lun.serial}",
            "store": self._store,
        }

    def _listen(self, iqn: str, portal: str) -> None:
        self._ask("expose", iqn=iqn, **_portal(portal))

    def expose(self, portal: str) -> None:
        """See TargetEngine; the array need not have the address yet."""
        spelled = str(Portal.parse(portal))
        if spelled in self._portals:
            raise BadInput(f"portal {spelled}: is exposed already")
        if not self._agent:
            raise LabError(f"{self.name}: does not run")
        for iqn in self._iqns():
            self._listen(iqn, spelled)
        self._portals.append(spelled)

    def set_parameter(self, iqn: str, name: str, value: str) -> None:
        """See TargetEngine; BadInput for a name or value that LIO refuses."""
        if iqn not in self._iqns():
            raise BadInput(f"target {iqn}: unknown; there are {self._iqns() or 'none'}")
        try:
            self._ask("parameter", iqn=iqn, name=name, value=value)
        except LabError as refused:
            raise BadInput(f"target {iqn}: {name}={value}: {refused}") from None
        self._parameters[iqn, name] = value

    def protect_discovery(self, account: ChapAccount) -> None:
        """See TargetEngine."""
        self._ask("discovery", credentials=_credentials("discovery", (account,)))
        self._discovery = account

    def power_cut(self) -> None:
        """See OwnKernel: unflushed data is lost."""
        self._place.power_cut()
        self._agent = None

    def power_on(self) -> None:
        """See OwnKernel; returns when it serves."""
        self._place.power_on()
        self.start()
        if self._discovery:
            self.protect_discovery(self._discovery)
        for target in self._targets:
            self._create(target)
            for portal in (self.local_portal, *self._portals):
                self._listen(target.iqn, portal)
        for (iqn, name), value in self._parameters.items():
            self._ask("parameter", iqn=iqn, name=name, value=value)

    def version(self) -> str:
        """See TargetEngine."""
        return self._version

    def stop(self) -> None:
        """See TargetEngine; the array's kernel goes on, without the disks."""
        if self._agent:
            self._ask("clear")
            self._agent.close_input()
            self._agent.wait(10.0)
            self._agent = None
            for device in (*self._devices.values(), self._memory):
                self._place.unplug(device)
            self._memory = ""
        self._targets, self._portals, self._devices = [], [], {}
        self._parameters, self._discovery = {}, None

    def _iqns(self) -> list[str]:
        return [target.iqn for target in self._targets]


def _portal(portal: str) -> dict[str, Any]:
    at = Portal.parse(portal)
    return {"address": at.host, "port": at.port}


def _credentials(place: str, accounts: tuple[ChapAccount, ...]) -> dict[str, str]:
    """As rtslib names them; BadInput if LIO cannot hold them."""
    check_accounts(place, accounts)
    found: dict[str, str] = {}
    for account in accounts:
        prefix = "mutual_" if account.mutual else ""
        if f"{prefix}userid" in found:
            raise BadInput(f"{place}: LIO holds one CHAP account that hosts log in with")
        found |= {f"{prefix}userid": account.user, f"{prefix}password": account.secret}
    return found


def _make(place: Place, logs: Path, store: str) -> Lio:
    return Lio(cast(KernelPlace, place), logs, store or "block")  # as `own_kernel` promises


KIND = Kind(
    _make,
    own_kernel=True,
    abilities=frozenset(
        {
            "compare-and-write",
            "heads",
            "power-cut",
            "reservations-survive-power-cuts",
            "reservations-survive-sessions",
            "stores",
        }
    ),
)
