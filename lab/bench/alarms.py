"""False alarms: how often the controller calls a good port dead on a fully loaded machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab import checks
from lab.array.policy import Policy, Probing
from lab.commands import LocalProcess
from lab.folder import Folder
from lab.guest.image import Image
from lab.run.lab import Lab, Setup
from lab.timeline import Timeline
from lab.topology import loading

ALARMS = {"port-down", "suspect", "moved", "no-port-left"}
"""The controller's events that mean a port is given up."""


@contextmanager
def _busy(log: Path) -> Iterator[None]:
    """Keep every processor busy with a process of its own."""
    processes = []
    try:
        for _ in range(os.cpu_count() or 1):
            processes.append(
                LocalProcess("burner", [sys.executable, "-c", "while True: pass"], log=log)
            )
        yield
    finally:
        for process in processes:
            process.kill()


def run(
    image: Image, work: Path, minutes: float, probing: Probing, say: Callable[[str], None]
) -> dict[str, Any]:
    """Watch a lab without faults for `minutes` while a host writes and every processor is busy.

    Needs the sandbox. Returns the alarms (none is good), the verdict and the checks of the disk.
    """
    (work / ".work").mkdir()
    timeline = Timeline()
    setup = Setup(loading.topology("one_switch"), image, Policy(probe=probing))
    with Lab(setup, Folder(work), timeline, say) as lab:
        h1 = lab.host("h1")
        h1.login()
        h1.start_writing()
        began = len(timeline.events("controller"))
        with _busy(work / "burner.log"):
            for part in range(int(minutes * 6)):
                lab.observe_for(10.0)
                say(f"{(part + 1) / 6:.1f} of {minutes:g} minutes")
        told = timeline.events("controller")[began:]
        h1.stop_and_verify()
    alarms = [event for event in told if event["what"] in ALARMS]
    must = [
        checks.session_survived("h1"),
        checks.same_connection("h1"),
        checks.no_io_errors("h1"),
        checks.no_lost_writes("h1"),
    ]
    findings = checks.judge(timeline, must)
    return {
        "minutes": minutes,
        "probe": asdict(probing),
        "alarms": alarms,
        "verdict": "fail" if alarms else str(checks.overall(findings)),
        "checks": [finding.as_json() for finding in findings],
        "measures": checks.measures(timeline),
    }
