"""A virtual port made of an engine that redirects natively: one answer for all hosts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from targets.base import RedirectsNatively, TargetEngine, TargetSpec


class _Engine(TargetEngine, RedirectsNatively, Protocol):
    """An engine that can do both."""


class UniformPort:
    """A second engine, with the targets and disks of the first, at the virtual addresses only.

    Answers hosts as VirtualPort does where one answer is enough for all of them, and serves them
    itself, with `parameters` at login. The controller does not reach it (`steering` is None): who
    runs the array passes its choice on.
    """

    steering = None

    def __init__(self, engine: _Engine, parameters: Mapping[str, str]) -> None:
        self.engine, self._parameters = engine, dict(parameters)
        self._targets: tuple[TargetSpec, ...] = ()
        self._answer: tuple[str | None, bool] = (None, False)

    def start(self, portals: Sequence[str], targets: Sequence[TargetSpec], engine: str) -> None:
        """Answer at `portals`, which the array must have; `engine`, the other one, is not used."""
        self._targets = tuple(targets)
        self.engine.start()
        for target in targets:
            self.engine.create(target)
            for name, value in self._parameters.items():
                self.engine.set_parameter(target.iqn, name, value)
            if self._answer[0]:
                self._redirect(target)
        for portal in portals:
            self.engine.expose(portal)

    def steer(self, initiator: str | None, portal: str | None, *, permanent: bool = False) -> None:
        """Send every host to `portal`, None: serve it here; `initiator` must be None."""
        assert initiator is None
        if (portal, permanent) != self._answer:
            self._answer = (portal, permanent)
            for target in self._targets:
                self._redirect(target)

    def _redirect(self, target: TargetSpec) -> None:
        portal, permanent = self._answer
        self.engine.redirect(target.iqn, portal, permanent=permanent)

    def stop(self) -> None:
        """End it and remove everything of it but its log; may be called twice."""
        self.engine.stop()
