"""Running a measurement in a sandbox and getting its figures back."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab import sandbox
from lab.errors import LabError, Missing


def in_sandbox(measure: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Call `measure` in a sandbox with an empty folder to work in, and return what it returned.

    Raises KeyboardInterrupt when it was interrupted and LabError when it gave no figures.
    """
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as folder:
        answer, work = Path(folder) / "answer.json", Path(folder) / "work"
        work.mkdir()

        def inside() -> int:
            try:
                answer.write_text(json.dumps(measure(work)))
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
        return dict(json.loads(answer.read_text()))
