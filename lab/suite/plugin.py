"""pytest plugin: the fixtures `lab_command` and `run_scenario`, and the cells of the suite.

The fixtures run the command as a person does: a process, its exit status, its JSON. The options of
the suite are there only with `pytest --pyargs lab.suite`, so that they disturb no other tests.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.errors import LabError
from lab.suite import options, records, running
from lab.suite.cells import Cell

pytest.register_assert_rewrite("lab.suite.contract", "lab.suite.wire")

LAB = running.LAB
_SUITE = pytest.StashKey[records.Suite]()


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


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(parser: pytest.Parser, args: list[str]) -> None:
    """Add the options of the suite if it is what is run."""
    if any(one.startswith("lab.suite") for one in args):
        options.add(parser.getgroup("lab", "failover-lab's suite"))


def pytest_configure(config: pytest.Config) -> None:
    """Make the suite's folder; a worker of xdist opens the one that its controller made."""
    given = getattr(config, "workerinput", {}).get("lab_suite")
    if given:
        running.die_with_parent()
        config.stash[_SUITE] = records.read(Path(given))
    elif hasattr(config.option, "lab_resume") and not config.option.collectonly:
        try:
            config.stash[_SUITE] = options.suite(config.option)
        except LabError as wrong:
            raise pytest.UsageError(str(wrong)) from None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of xdist the suite's folder."""
    if _SUITE in node.config.stash:
        node.workerinput["lab_suite"] = str(node.config.stash[_SUITE].folder)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each cell, for a test that asks for the fixture `cell`."""
    if "cell" not in metafunc.fixturenames or not hasattr(metafunc.config.option, "lab_resume"):
        return
    suite = metafunc.config.stash.get(_SUITE, None)
    if suite:
        cells = suite.open()
    else:
        cells, _ = options.cells(metafunc.config.option)
    metafunc.parametrize("cell", cells, ids=[cell.id for cell in cells])


@pytest.fixture
def tries(
    cell: Cell, pytestconfig: pytest.Config, record_property: Callable[[str, object], None]
) -> list[records.Record]:
    """Run `cell` and return its tries. One that is no pass and no failure is an error of pytest,
    so that both stay apart in JUnit's file."""
    suite, given = pytestconfig.stash[_SUITE], pytestconfig.option
    found = running.run(suite, cell, given.lab_retry, given.lab_keep_mib << 20)
    last = found[-1]
    facts = {**last.versions, "seed": last.seed, "folder": last.folder, "tries": len(found)}
    facts |= {f"stall_ms {host}": ms for host, ms in last.stall_ms.items()}
    for name, value in facts.items():
        record_property(name, value)
    if last.verdict not in ("pass", "fail"):
        pytest.fail(f"{last.verdict}: {last.why}\n{suite.folder / last.folder}", pytrace=False)
    return found


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the reports, once, when all workers are done."""
    config = session.config
    if _SUITE in config.stash and not hasattr(config, "workerinput"):
        from lab.suite import reports

        reports.write(config.stash[_SUITE], ktap=config.option.lab_ktap)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say where the reports are."""
    if _SUITE in config.stash and not hasattr(config, "workerinput"):
        terminalreporter.write_line(f"reports: {config.stash[_SUITE].folder}/index.html")
