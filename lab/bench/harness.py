"""Run a measurement in a sandbox and return its figures."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab import sandbox
from lab.errors import LabError, Missing
from lab.guest import image as release


def in_sandbox(measure: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Call `measure` with an empty work folder in a sandbox, and return its result.

    The folder is in memory and ends with the sandbox. Raises KeyboardInterrupt if interrupted,
    BadInput if the folder cannot be made, and LabError if there are no figures.
    """
    work = release.scratch()
    with os.fdopen(os.memfd_create("answer"), "w+") as answer:

        def inside() -> int:
            sandbox.mount_tmpfs(work)  # only this sandbox sees it
            try:
                json.dump(measure(work), answer)
                answer.flush()
            except LabError as error:
                print(f"lab: {error}", file=sys.stderr)
                return error.exit_code
            return 0

        status = sandbox.run(inside)
        if status == 130:
            raise KeyboardInterrupt
        if status == Missing.exit_code:
            raise Missing("the measurement could not run; see above")
        if status:
            raise LabError(f"the measurement ended with status {status}; see above")
        answer.seek(0)
        return dict(json.load(answer))
