"""A front made of an engine that redirects natively: one answer for all hosts."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

from lab.errors import LabError
from targets.base import (
    ChapAccount,
    KillableDaemon,
    RedirectsNatively,
    TargetEngine,
    TargetSpec,
)


class _Engine(TargetEngine, RedirectsNatively, KillableDaemon, Protocol):
    """An engine that can do all of this."""

    @property
    def running(self) -> bool:
        """Whether its process is there."""


class NativeFront:
    """A second engine, with the targets and disks of the first, at the virtual addresses only.

    It gives all hosts the same answer, or serves them itself, with `parameters` at login. Secrets
    and access lists of the targets count only if it serves: it redirects before checking them. The
    controller cannot steer it (`steering` is None): the array passes the choice on.
    """

    steering = None

    def __init__(self, engine: _Engine, parameters: Mapping[str, str]) -> None:
        self.engine, self._parameters = engine, dict(parameters)
        self._targets: tuple[TargetSpec, ...] = ()
        self._portals: tuple[str, ...] = ()
        self._answer: tuple[str | None, bool] = (None, False)
        self._lock = threading.Lock()
        self._discovery: ChapAccount | None = None

    def protect_discovery(self, account: ChapAccount) -> None:
        """Require `account` at discovery, from `start` on."""
        self._discovery = account

    def start(self, portals: Sequence[str], targets: Sequence[TargetSpec], engine: str) -> None:
        """Answer at `portals`, which the array must have; `engine` is not used."""
        self._targets, self._portals = tuple(targets), tuple(portals)
        self.engine.start()
        if self._discovery:
            self.engine.protect_discovery(self._discovery)
        for target in targets:
            self.engine.create(target)
            for name, value in self._parameters.items():
                self.engine.set_parameter(target.iqn, name, value)
            if self._answer[0]:
                self._redirect(target)
        for portal in portals:
            self.engine.expose(portal)

    def steer(self, initiator: str | None, portal: str | None, *, permanent: bool = False) -> None:
        """Redirect every host to `portal` (None: serve it here); `initiator` must be None."""
        assert initiator is None
        with self._lock:
            if (portal, permanent) == self._answer:
                return
            self._answer = (portal, permanent)
            try:
                for target in self._targets:
                    self._redirect(target)
            except LabError:
                if self.engine.running:
                    raise
                # It has died; restart() sets the answer.

    def _redirect(self, target: TargetSpec) -> None:
        portal, permanent = self._answer
        self.engine.redirect(target.iqn, portal, permanent=permanent)

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self.engine.running

    def kill(self) -> None:
        """SIGKILL: nobody answers at the virtual addresses; redirected sessions go on."""
        self.engine.kill()

    def restart(self) -> None:
        """Start it again after `kill`, with the same settings and the latest answer.

        LabError if the array lacks a virtual address now.
        """
        with self._lock:
            self.engine.stop()
            self.start(self._portals, self._targets, "")

    def stop(self) -> None:
        """End it and remove all but its log; may be called twice."""
        self.engine.stop()
