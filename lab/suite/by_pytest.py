"""Runs the open cells of a suite with pytest, and says how that ended."""

from __future__ import annotations

from lab.errors import LabError
from lab.suite import records

INTERRUPTED = 130
"""The exit code after Ctrl-C, as a shell has it: 128 and the signal's number."""


def run(
    suite: records.Suite, workers: int, *, fail_fast: bool, retry: int, keep_mib: int, ktap: bool,
    allow_flaky: bool,
) -> int:  # fmt: skip
    """Run the cells with `workers` processes, write the reports, and return the exit code.

    Raises LabError if pytest failed beside its cells.
    """
    import pytest  # here, so that other commands do not load it

    # The folder says which cells there are: pytest goes on with it.
    argv = [
        "--pyargs", "lab.suite.test_catalogue", "--resume", str(suite.folder), "-c", "/dev/null",
        f"--rootdir={suite.folder}", "-p", "no:cacheprovider", "--no-header", "-q", "--tb=short",
        f"--junitxml={suite.folder}/junit.xml", "--retry", str(retry), "--keep-mib", str(keep_mib),
        "-o", "junit_family=xunit1",  # the one with properties
    ]  # fmt: skip
    argv += ["-x"] if fail_fast else []
    argv += ["-n", str(workers), "--dist", "worksteal"] if workers > 1 else []
    argv += ["--ktap"] if ktap else []
    status = pytest.main(argv)
    if status == pytest.ExitCode.INTERRUPTED and not fail_fast:
        return INTERRUPTED
    outcomes = suite.outcomes()
    # A test fails because of its cell, or because something else broke.
    broke = status == 1 and all(one.verdict == "pass" for one in outcomes)
    if broke or status not in (0, 1, pytest.ExitCode.INTERRUPTED):
        raise LabError(f"{suite.folder}: pytest ended with status {int(status)}; see above")
    return records.exit_code(outcomes, allow_flaky)
