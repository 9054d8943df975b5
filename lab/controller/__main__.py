"""`python3 -m lab.controller CONFIG.json`: events on standard output, orders on standard input.

Exit status: 0 when standard input ends, 2 for a bad configuration, 3 if the array already has a
controller.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path

from lab.controller import config
from lab.controller.output import Output
from lab.controller.service import Service
from lab.errors import LabError, Missing, WaitTimeout
from lab.waiting import wait_for

LOCK_S = 0.5
"""How long to wait for the lock: `ip` of a killed controller holds it until its lines are done."""


def lock(array: str) -> socket.socket:
    """Become the only controller of `array`; raises Missing if there is another one.

    The lock is an abstract unix(7) socket: each network namespace has its own, and it disappears
    with the last process that holds it.
    """
    held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def bind() -> bool:
        try:
            held.bind(f"\0lab-controller-{array}")
        except OSError:
            return False
        return True

    try:
        wait_for("the lock", bind, seconds=LOCK_S, every=0.005)
    except WaitTimeout:
        raise Missing(f"{array} has a controller already; end that one first") from None
    return held


def hurry() -> None:
    """Raise our priority where that is allowed: I/O waits for us."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def main() -> int:
    """Run the controller that the command line names; returns the exit status."""
    if len(sys.argv) != 2:
        print("usage: python3 -m lab.controller CONFIG.json", file=sys.stderr)
        return 2
    try:
        chosen = config.read(Path(sys.argv[1]))
        held = lock(chosen.array)
    except LabError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    hurry()
    output = Output(chosen.array)
    Service(chosen, held, output).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
