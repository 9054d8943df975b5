"""A front with an answer for each host, in front of any engine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lab.commands import Process
from lab.errors import BadInput, LabError
from lab.portal import Portal
from lab.waiting import wait_for
from targets.base import (
    ChapAccount,
    Place,
    TargetSpec,
    check_accounts,
)

_FOLDER = "virtual-port"


class SteeredFront:
    """A process (targets/front/service.py) and the directory that steers it.

    `place` has the virtual addresses. `steering` has a file with the answer for each initiator
    address, and `default` and `default6` for the others; without any, a login is refused with
    0x0301. The array's controller writes them (lab/controller/output.py). `on_event` gets each
    event ("redirected", "serving", "served", "refused") from another thread.
    """

    def __init__(
        self,
        place: Place,
        log_dir: Path,
        *,
        on_event: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self._place, self._on_event = place, on_event
        self.steering = place.folder / _FOLDER / "steering"
        self.log = log_dir / "virtual-port.log"
        self._config: Path | None = None
        self._process: Process | None = None
        self._ready = threading.Event()
        self._discovery: ChapAccount | None = None

    def protect_discovery(self, account: ChapAccount) -> None:
        """Require `account` at discovery, from `start` on; BadInput if it is invalid."""
        check_accounts("discovery", [account])
        self._discovery = account

    def start(self, portals: Sequence[str], targets: Sequence[TargetSpec], engine: str) -> None:
        """Answer at `portals` for `targets`; pass hosts to be served on to portal `engine`.

        Returns once it listens, also at addresses that the array gets later.
        """
        if not portals:
            raise BadInput("virtual port: has no address")
        listen = [str(Portal.parse(portal)) for portal in portals]
        if len(set(listen)) < len(listen):
            raise BadInput(f"virtual port: one portal twice: {listen}")
        answer = sum(len(t.iqn) + len(max(listen, key=len)) + 30 for t in targets)
        if answer > 8192:
            raise BadInput(f"virtual port: {len(targets)} targets do not fit into one answer")
        asks = self._discovery
        config = {
            "listen": listen,
            "steering": str(self.steering),
            "engine": str(Portal.parse(engine)),
            "targets": [{"iqn": t.iqn, "initiators": list(t.initiators)} for t in targets],
            "discovery": asks and {"user": asks.user, "secret": asks.secret},
        }
        self._config = self._place.put(f"{_FOLDER}/config.json", json.dumps(config))
        self.restart()

    def restart(self) -> None:
        """Start it again after `kill`, with the same settings."""
        if self._process:
            raise LabError(f"{self._place.runner.host}: the virtual port runs already")
        self._ready.clear()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        started = self._process = self._place.start_module(
            "targets.front.service", str(self._config), log=self.log, on_line=self._hear
        )
        try:
            wait_for(
                "the virtual port to listen",
                lambda: self._listens(started),
                seconds=10,
                every=0.003,
            )
        except LabError:
            self.kill()
            raise

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    def _listens(self, process: Process) -> bool:
        status = process.poll()
        if status is not None:
            end = "\n  ".join(self.log.read_text(errors="replace").splitlines()[-5:])
            host = self._place.runner.host
            raise LabError(f"{host}: the virtual port ended, status {status}\n  {end}")
        return self._ready.is_set()

    def _hear(self, line: str) -> None:
        event = json.loads(line)
        if event["what"] == "ready":
            self._ready.set()
        elif self._on_event:
            self._on_event(event)

    def steer(self, initiator: str | None, portal: str | None, *, permanent: bool = False) -> None:
        """Redirect the host at address `initiator` (None: any other host) to `portal`.

        `portal` None: serve it at the virtual port. Valid from the next login on, until a
        controller decides otherwise.
        """
        line = "here"
        if portal is not None:
            reason = "Permanent" if permanent else "Temporary"
            line = f"{Portal.parse(portal)!s}:{reason}"
        for name in _files(initiator):
            self._place.put(f"{_FOLDER}/steering/{name}", f"{line}\n")

    def kill(self) -> None:
        """SIGKILL: nobody answers at the virtual addresses; redirected sessions go on."""
        if self._process:
            self._process.kill()
            self._process = None

    def stop(self) -> None:
        """End it and remove all but its log; may be called twice."""
        self.kill()
        self._place.put_away(_FOLDER)


def _files(initiator: str | None) -> tuple[str, ...]:
    """The steering file of a host, or the default files for IPv4 and IPv6."""
    return (Portal.parse(initiator).address,) if initiator else ("default", "default6")
