"""A fault: a context manager that begins on entry, is undone on exit, and is on the timeline."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lab.faults.network import cable_pulled, recorded
from lab.run.lab import Lab

NAME = "loose-cable"


@contextmanager
def loose_cable(lab: Lab, name: str, times: int = 3, pause_s: float = 0.1) -> Iterator[None]:
    """The carrier of port or host `name` comes and goes `times` times; it is back at the end."""
    with recorded(lab, name, NAME, times=times):
        for _ in range(times):
            with cable_pulled(lab, name):
                lab.observe_for(pause_s)
            lab.observe_for(pause_s)
        yield
