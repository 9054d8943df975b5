"""One run of pytest in a process of its own, in a copy of the tree."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def enter(tree: str) -> None:
    """Be in the copy, and nowhere else: imports, processes that tests start, output."""
    os.setsid()  # what a test starts ends with it
    os.chdir(tree)
    sys.path.insert(0, tree)
    sys.argv[0] = "pytest"
    os.environ["PYTHONPATH"] = tree
    silent = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(silent, stream)


def pytest_run(files: list[str], plugins: list[object]) -> int:
    import hypothesis
    import pytest

    # A failure is enough; looking for the shortest example of it takes minutes.
    hypothesis.settings.register_profile(
        "mutation",
        derandomize=True,
        database=None,
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    )
    hypothesis.settings.load_profile("mutation")
    return int(pytest.main(["-q", "--tb=no", "-p", "no:cacheprovider", *files], plugins))


class Chosen:
    """Only these tests, in this order."""

    def __init__(self, tests: list[str]) -> None:
        self.place = {test: at for at, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items) -> None:
        items[:] = [item for item in items if item.nodeid in self.place]
        items.sort(key=lambda item: self.place[item.nodeid])


def try_mutant(tree: str, tests: list[str]) -> None:
    """Exit with pytest's status: 0, nobody noticed."""
    enter(tree)
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
    os._exit(pytest_run(["-x", *files], [Chosen(tests)]))


def who_covers_what(tree: str, files: list[str], folders: list[str]) -> None:
    """Write `covered.json`: for each line the tests that run it; and how long each test takes."""
    enter(tree)
    import coverage
    import pytest

    measured = coverage.Coverage(data_file=None, include=[f"{tree}/{name}/*" for name in folders])
    took: dict[str, float] = {}
    failed: set[str] = set()  # for want of time: they are not among the judges

    class Contexts:
        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_protocol(self, item):
            measured.switch_context(item.nodeid)
            began = time.monotonic()
            result = yield
            took[item.nodeid] = time.monotonic() - began
            return result

        def pytest_runtest_logreport(self, report):
            if report.failed:
                failed.add(report.nodeid)

    measured.start()
    status = pytest_run(files, [Contexts()])
    measured.stop()
    if status > 1 or len(failed) > 5:
        os._exit(status)
    data = measured.get_data()
    lines = {
        os.path.relpath(path, tree): {
            line: [test for test in tests if test and test not in failed]
            for line, tests in data.contexts_by_lineno(path).items()
        }
        for path in data.measured_files()
    }
    found = {"took": took, "lines": lines, "failed": sorted(failed)}
    Path("covered.json").write_text(json.dumps(found))
    os._exit(0)
