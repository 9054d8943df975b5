"""The virtual port: one address for all hosts, in front of any engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lab.array.site import Site
from lab.commands import Process
from lab.errors import BadInput, LabError
from lab.waiting import wait_for
from targets.base import (
    ChapAccount,
    EngineSession,
    TargetSpec,
    check_accounts,
    join_portal,
    split_portal,
)

_FOLDER = "virtual-port"


class VirtualPort:
    """The front process, the directory that steers it, and whom it serves.

    `site` is where the virtual addresses are. `steering` holds one answer for each initiator
    address, `default` and `default6` for the others; with none, a login is refused with 0x0301.
    The array's controller writes them there (lab/controller/output.py). `on_event` gets each of its
    events ("redirected", "serving", "served", "refused") from another thread.
    """

    def __init__(
        self,
        site: Site,
        log_dir: Path,
        *,
        on_event: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self._site, self._on_event = site, on_event
        self.steering = site.folder / _FOLDER / "steering"
        self.log = log_dir / "virtual-port.log"
        self._config: Path | None = None
        self._process: Process | None = None
        self._lines: list[dict[str, Any]] = []
        self._serving: dict[tuple[str, str], dict[str, Any]] = {}
        self._discovery: ChapAccount | None = None

    def protect_discovery(self, account: ChapAccount) -> None:
        """Ask for `account` at discovery, from `start` on; BadInput if it is none."""
        check_accounts("discovery", [account])
        self._discovery = account

    def start(self, portals: Sequence[str], targets: Sequence[TargetSpec], engine: str) -> None:
        """Answer at `portals` for `targets`, and pass those on that are served to portal `engine`.

        Returns once it listens, which it also does at an address that the array gets later.
        """
        if not portals:
            raise BadInput("virtual port: has no address")
        listen = [join_portal(*split_portal(portal)) for portal in portals]
        if len(set(listen)) < len(listen):
            raise BadInput(f"virtual port: one portal twice: {listen}")
        answer = sum(len(t.iqn) + len(max(listen, key=len)) + 30 for t in targets)
        if answer > 8192:
            raise BadInput(f"virtual port: {len(targets)} targets do not fit into one answer")
        asks = self._discovery
        config = {
            "listen": listen,
            "steering": str(self.steering),
            "engine": join_portal(*split_portal(engine)),
            "targets": [{"iqn": t.iqn, "initiators": list(t.initiators)} for t in targets],
            "discovery": asks and {"user": asks.user, "secret": asks.secret},
        }
        self._config = self._site.put(f"{_FOLDER}/config.json", json.dumps(config))
        self.restart()

    def restart(self) -> None:
        """Start it again after `kill`, with what it was started with."""
        if self._process:
            raise LabError(f"{self._site.runner.host}: the virtual port runs already")
        self._lines.clear()
        self._serving.clear()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        started = self._process = self._site.start_module(
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
            host = self._site.runner.host
            raise LabError(f"{host}: the virtual port ended, status {status}\n  {end}")
        return any(line["what"] == "ready" for line in list(self._lines))

    def _hear(self, line: str) -> None:
        event = json.loads(line)
        self._lines.append(event)
        if event["what"] in ("serving", "served"):
            key = (event["initiator"], event["target"])
            if event["what"] == "serving":
                self._serving[key] = event
            elif self._serving.get(key, {}).get("host") == event["host"]:
                del self._serving[key]
        if self._on_event and event["what"] != "ready":
            self._on_event(event)

    def steer(self, initiator: str | None, portal: str | None, *, permanent: bool = False) -> None:
        """Decide where the host at address `initiator` (None: any other host) is sent to.

        `portal` None serves it at the virtual port. It counts from the next login on, and until a
        controller decides otherwise.
        """
        line = "here"
        if portal is not None:
            reason = "Permanent" if permanent else "Temporary"
            line = f"{join_portal(*split_portal(portal))}:{reason}"
        for name in _files(initiator):
            self._site.put(f"{_FOLDER}/steering/{name}", f"{line}\n")

    def forget(self, initiator: str | None) -> None:
        """Take an answer back, so that the default counts, or none."""
        self._site.put_away(*(f"{_FOLDER}/steering/{name}" for name in _files(initiator)))

    def locate(self, sessions: Sequence[EngineSession]) -> list[EngineSession]:
        """The engine's sessions, those that come through here with the host's address and ours."""
        located = []
        for session in sessions:
            event = self._serving.get((session.initiator, session.target))
            if event and session.initiator_address in ("127.0.0.1", "::1"):
                session = replace(session, initiator_address=event["host"], portal=event["portal"])
            located.append(session)
        return located

    def kill(self) -> None:
        """SIGKILL: nobody answers at the virtual addresses; redirected sessions go on."""
        if self._process:
            self._process.kill()
            self._process = None

    def stop(self) -> None:
        """End it and remove everything of it but its log; may be called twice."""
        self.kill()
        self._site.put_away(_FOLDER)


def _files(initiator: str | None) -> tuple[str, ...]:
    """The files that decide for a host, or for all those (by IPv4, by IPv6) without one."""
    return (split_portal(initiator)[0],) if initiator else ("default", "default6")
