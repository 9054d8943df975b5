"""Mutation testing: `make mutate`, or `make mutate MUTATE="lab/checks/address.py …"`.

Each mutant is the product with one mistake. The unit tests that run the mistaken line are run on
it, the quickest first, until one fails. A mutant that none notices survives. Why no library does
this, what is left alone and what survives: docs/mutation.md.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import queue
import shutil
import signal
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import child
from mistakes import Mutant, mutants

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "mutants"
COPIED = ("lab", "targets", "topologies", "tests", "examples", "pyproject.toml", "README.md",
          "CONTRIBUTING.md", "Makefile", "requirements.lock", "requirements-dev.lock")  # fmt: skip
PRELOAD = ["pytest", "hypothesis", "pydantic", "typer", "rich", "jinja2", "paramiko", "pyroute2",
           "sh", "hypothesis.stateful", "rich.console", "rich.table", "coverage"]  # fmt: skip
SCOPE = (
    "lab/checks/*.py",
    "lab/controller/[ahjmops]*.py",
    "lab/controller/frames.py",
    "lab/array/policy.py",
    "lab/array/watchdog.py",
    "lab/array/supervisor.py",
    "lab/observe/decode.py",
    "lab/observe/conversation.py",
    "lab/observe/packet.py",
    "lab/observe/bpf.py",
    "lab/report/*.py",
    "lab/load/*.py",
    "lab/guest/files/writer.py",
    "targets/pdu.py",
    "targets/chap.py",
    "targets/relay/rules.py",
)
OUT_OF_SCOPE = ("lab/controller/addresses.py",)  # system calls: tests/failover/controller
# They read the checkout itself, or install it: no mutant changes what they see.
NOT_THESE = ("test_house.py", "test_package.py", "test_doctor.py", "test_relay_fuzz.py")
GOAL = 0.95
SLOW_S = 1.0
"""A test that takes longer is no judge: each survivor would cost as much. So the result is a lower
bound. `--slow` lets them judge too."""
Lines = dict[str, dict[str, list[str]]]


def main() -> int:
    """Run it; the exit status is 1 below the goal."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("files", nargs="*", help="files of the product (default: the scope)")
    arguments.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    arguments.add_argument("--tests", nargs="*", default=[], help="test files (default: all units)")
    arguments.add_argument("--slow", action="store_true", help="slow tests judge too")
    arguments.add_argument("--sample", type=float, default=1.0, help="such a part of the mutants")
    given = arguments.parse_args()
    files = given.files or sorted(
        {
            str(path.relative_to(ROOT))
            for pattern in SCOPE
            for path in ROOT.glob(pattern)
            if str(path.relative_to(ROOT)) not in OUT_OF_SCOPE
        }
    )
    every = [m for file in files for m in mutants(file, (ROOT / file).read_text())]
    made = [m for m in every if _lot(m) < given.sample]
    equal = _equivalent()
    stale = [name for name in equal if name.split()[0] in files] if equal else []
    stale = sorted(set(stale) - {m.name for m in every})
    if stale:
        print("No such mutant any more; correct tests/mutation/equivalent.txt:", *stale, sep="\n  ")
        return 2
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    trees: queue.Queue[Path] = queue.Queue()
    try:
        for number in range(given.jobs):
            trees.put(_copy(WORK / f"tree-{number}"))
        lines, took = _covered(context, trees, given.tests)
        if not given.slow:
            took = {test: seconds for test, seconds in took.items() if seconds <= SLOW_S}
        tried = [m for m in made if m.name not in equal]
        survived = _try_all(context, trees, tried, lines, took, given.jobs)
    finally:
        for tree in WORK.glob("tree-*"):
            shutil.rmtree(tree, ignore_errors=True)
    return _say(files, made, equal, survived)


def _lot(mutant: Mutant) -> float:
    """The same each time, from 0 to 1."""
    return int.from_bytes(hashlib.sha256(mutant.name.encode()).digest()[:4], "big") / (1 << 32)


def _equivalent() -> dict[str, str]:
    """Mutants that change nothing, and why: pairs of lines, the reason indented."""
    names: dict[str, str] = {}
    name = ""
    for line in (Path(__file__).parent / "equivalent.txt").read_text().splitlines():
        if line.startswith("    "):
            for waiting in [n for n, reason in names.items() if not reason]:
                names[waiting] = line.strip()
        elif line and not line.startswith("#"):
            name = line
            names[name] = ""
    return names


def _copy(tree: Path) -> Path:
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, tree / name)
    return tree


def _covered(context, trees, only: list[str]) -> tuple[Lines, dict[str, float]]:
    """Which tests run which line; kept until a file changes."""
    tests = only or sorted(
        str(path.relative_to(ROOT))
        for path in ROOT.glob("tests/unit/test_*.py")
        if path.name not in NOT_THESE
    )
    told = hashlib.sha256(" ".join(tests).encode())
    for name in ("lab", "targets", "topologies", "tests/unit"):
        for path in sorted((ROOT / name).rglob("*.py")):
            told.update(path.read_bytes())
    kept = WORK / f"covered-{told.hexdigest()[:16]}.json"
    if not kept.exists():
        for old in WORK.glob("covered-*.json"):
            old.unlink()
        print(f"Which test runs which line: {len(tests)} files of tests …", flush=True)
        tree = trees.get()
        run = context.Process(
            target=child.who_covers_what, args=(str(tree), tests, ["lab", "targets"])
        )
        run.start()
        run.join()
        if run.exitcode:
            print((tree / "output").read_text())
            sys.exit("The tests must pass before mistakes are made.")
        shutil.copy(tree / "covered.json", kept)
        trees.put(tree)
    found = json.loads(kept.read_text())
    for test in found["failed"]:
        print(f"Without {test}: it fails under the measurement.")
        del found["took"][test]
    return found["lines"], found["took"]


def _try_all(context, trees, tried: list[Mutant], lines: Lines, took, jobs: int):
    """The mutants that survived, each with the number of tests that ran it."""
    survived: list[tuple[Mutant, int]] = []
    (WORK / "survivors.txt").write_text("")
    began = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {
            pool.submit(_try, context, trees, m, _tests_of(m, lines, took), took): m for m in tried
        }
        for done, future in enumerate(as_completed(waiting), 1):
            mutant = waiting[future]
            noticed, tests = future.result()
            if not noticed:
                survived.append((mutant, tests))
                with (WORK / "survivors.txt").open("a") as told:  # sorted at the end
                    told.write(_line(mutant, tests))
            if done % 100 == 0:
                rate = (time.monotonic() - began) / done
                print(f"{done} of {len(tried)}, {rate:.2f} s each, {len(survived)} survive",
                      flush=True)  # fmt: skip
    return survived


def _tests_of(mutant: Mutant, lines: Lines, took: dict[str, float]) -> list[str]:
    """The tests that run the mistaken statement, the quickest first."""
    of_file = lines.get(mutant.path, {})
    if mutant.body or mutant.first != mutant.last:
        wanted = range(mutant.first, mutant.last + 1)
        found = {t for line in wanted for t in of_file.get(str(line), ())}
    else:
        found = {t for t in of_file.get(str(mutant.first), ())}
    if mutant.body and not found:
        # The compiler gives equal exits of a function, two `return "ok"`, the line of one of them.
        before = [int(line) for line, tests in of_file.items() if tests]
        nearest = max((line for line in before if line < mutant.first), default=0)
        found = set(of_file.get(str(nearest), ())) if mutant.first - nearest < 3 else set()
    if not mutant.body and not found:  # it takes effect at the import
        found = {t for tests in of_file.values() for t in tests}
    # Those of a program that tests start as a process of its own.
    namesake = f"tests/unit/test_{Path(mutant.path).stem}.py::"
    found |= {t for t in took if t.startswith(namesake)}
    return sorted(found & set(took), key=lambda t: took[t])


def _try(context, trees, mutant: Mutant, tests: list[str], took) -> tuple[bool, int]:
    if not tests:
        return False, 0
    tree = trees.get()
    try:
        file = tree / mutant.path
        right = file.read_text()
        for stale in file.parent.glob(f"__pycache__/{file.stem}.*"):
            stale.unlink()
        file.write_text(mutant.source)
        run = context.Process(target=child.try_mutant, args=(str(tree), tests))
        run.start()
        run.join(10 + 4 * sum(took[t] for t in tests))
        late = run.exitcode is None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.join()
        file.write_text(right)
        return late or run.exitcode != 0, len(tests)
    finally:
        trees.put(tree)


def _line(mutant: Mutant, tests: int) -> str:
    return f"{mutant.first}: {mutant.name}   [{tests} tests]\n"


def _say(files, made: list[Mutant], equal: dict[str, str], survived) -> int:
    """The figures by folder, and the survivors in a file."""
    folder = {file: str(Path(file).parent) for file in files}
    all_of = Counter(folder[m.path] for m in made if m.name not in equal)
    equal_of = Counter(folder[m.path] for m in made if m.name in equal)
    alive_of = Counter(folder[m.path] for m, _ in survived)
    print("\n| folder | mutants | killed | survive | change nothing |\n|---|--:|--:|--:|--:|")
    rows = [(name, all_of[name], alive_of[name], equal_of[name]) for name in sorted(all_of)]
    rows.append(("all", sum(all_of.values()), len(survived), sum(equal_of.values())))
    for name, of, alive, equivalent in rows:
        print(f"| {name} | {of} | {(of - alive) / of:.1%} | {alive} | {equivalent} |")
    by_file = Counter(m.path for m, _ in survived)
    total = Counter(m.path for m in made if m.name not in equal)
    survived.sort(key=lambda found: (found[0].path, found[0].first))
    (WORK / "survivors.txt").write_text("".join(_line(mutant, tests) for mutant, tests in survived))
    for file in files:
        print(f"{file}: {total[file] - by_file[file]} of {total[file]}")
    print("The survivors: mutants/survivors.txt")
    _, of, alive, _ = rows[-1]
    return 0 if (of - alive) >= GOAL * of else 1


if __name__ == "__main__":
    sys.exit(main())
