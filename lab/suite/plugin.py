"""pytest plugin: the fixtures `lab_command` and `run_scenario`, for this suite and those of users.

Both run the command as a person does: a process, its exit status, its JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("lab.suite.contract", "lab.suite.wire")

LAB = Path(sys.executable).with_name("lab")


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def results(self) -> list[dict[str, Any]]:
        """What --json printed; nothing else may be there."""
        return list(json.loads(self.out))


LabCommand = Callable[..., Ran]


@pytest.fixture
def lab_command() -> LabCommand:
    """Run `lab` with arguments; `prefix` goes before it, `env` over the environment."""

    def run(
        *arguments: str | Path,
        prefix: Sequence[str] = (),
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        seconds: float = 110.0,
    ) -> Ran:
        done = subprocess.run(
            [*prefix, str(LAB), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=seconds,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def run_scenario(lab_command: LabCommand, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Run one scenario and return its result; the exit status must be that of its verdict.

    Each run has a folder of its own below `tmp_path`: run-1, run-2, … and so on.
    """
    numbers = itertools.count(1)

    def run(name: str, *options: str, **settings: Any) -> dict[str, Any]:
        folder = tmp_path / f"run-{next(numbers)}"
        ran = lab_command("run", name, "--json", "--out", folder, *options, **settings)
        assert ran.out, ran.err
        (result,) = ran.results
        assert ran.status == {"pass": 0, "fail": 1, "unknown": 4}[result["verdict"]]
        assert json.loads((folder / "result.json").read_text()) == {
            k: v for k, v in result.items() if k != "folder"
        }
        return result

    return run
