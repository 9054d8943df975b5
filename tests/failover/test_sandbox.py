"""Nothing is left behind, whatever ends the lab, and labs do not disturb each other."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ordinary_user import ordinary_user

from lab.guest import image as release
from lab.scenarios import catalogue
from lab.waiting import wait_for

ROOT = Path(__file__).parent.parent.parent
LAB = Path(sys.executable).with_name("lab")
LISTED = {name: one for name, one in catalogue().items() if one.listed}
# What ends a lab does not know its scenario, but each file of them has processes of its own kind.
# With LAB_TEST_ALL, as `make test-all` has it, each scenario is killed.
FIRST_OF_EACH_FILE = {one.act.__module__: name for name, one in reversed(LISTED.items())}
SCENARIOS = [*(LISTED if os.environ.get("LAB_TEST_ALL") else FIRST_OF_EACH_FILE.values())]


def started_by(parent: int) -> set[int]:
    """All processes below `parent`, as the kernel has them."""
    found: set[int] = set()
    todo = [parent]
    while todo:
        try:
            tasks = Path(f"/proc/{todo.pop()}/task")
            children = {
                int(c) for t in tasks.iterdir() for c in (t / "children").read_text().split()
            }
        except (FileNotFoundError, ProcessLookupError):
            continue
        todo += children - found
        found |= children
    return found


def namespaces(pids) -> set[str]:
    seen = set()
    for pid in pids:
        for kind in ("net", "mnt", "pid"):
            try:
                seen.add(str(Path(f"/proc/{pid}/ns/{kind}").readlink()))
            except OSError:
                continue
    return seen - {str(Path(f"/proc/self/ns/{k}").readlink()) for k in ("net", "mnt", "pid")}


def namespaces_in_use() -> set[str]:
    return namespaces(int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit())


def is_there(path: str) -> bool:
    """Whether the path exists; not if its process has just ended (ESRCH, which exists() raises)."""
    try:
        return Path(path).exists()
    except OSError:
        return False


def names_in(folder) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def what_is_there() -> dict[str, set[str]]:
    return {
        "interfaces": names_in("/sys/class/net"),
        "mounts": set(Path("/proc/self/mounts").read_text().splitlines()),
        "temporary files": names_in("/tmp"),
        "home": names_in(Path.home()),
        "sockets": {line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()},
    }


def start(name: str, out: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [LAB, "run", name, "--out", out],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT,
    )  # fmt: skip


def reached(out: Path, kind: str) -> bool:
    path = out / "timeline.jsonl"
    return path.exists() and f'"kind": "{kind}"' in path.read_text(errors="replace")


def dead(pids) -> bool:
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                return False
        except (FileNotFoundError, ProcessLookupError):
            continue
    return True


def nothing_is_left(before: dict[str, set[str]], everything: set[int], inside: set[str]) -> None:
    """`everything`, the processes, and the namespaces `inside` end; nothing else is new."""
    wait_for("every process to end", lambda: dead(everything), seconds=10)
    wait_for("its namespaces to go", lambda: not (namespaces_in_use() & inside), seconds=10)
    after = what_is_there()
    for what, were in before.items():
        new = {n for n in after[what] - were if "pytest" not in n}
        assert not [n for n in new if what != "sockets" or "iscsi" in n.lower() or "lab" in n], what


@pytest.mark.parametrize(
    ("name", "who"),
    [
        *((name, "outermost") for name in SCENARIOS),
        ("hidden-ports", "first"),
        ("port-loss", "first"),
    ],
)
def test_sigkill_in_the_middle_leaves_nothing(name, who, tmp_path):
    before = what_is_there()
    out = tmp_path / "run"
    process = start(name, out)
    without_load = name in ("hidden-ports", "discovery-with-chap")
    middle = "controller" if without_load else "load"  # with its discovery the first one is over
    try:
        wait_for(
            f"{name} to be in the middle", lambda: reached(out, middle), seconds=40, every=0.01
        )
        everything = started_by(process.pid)
        inside = namespaces(everything)
        assert len(everything) > 10
        assert inside
        first = first_process(process.pid)
        # The lab stands still from here on. A short run would end by itself within the wait.
        for worker in children_of(first):
            os.kill(worker, signal.SIGSTOP)
        os.kill(process.pid if who == "outermost" else first, signal.SIGKILL)
        process.wait(20)
    finally:
        process.kill()
        process.wait(20)
    try:
        nothing_is_left(before, everything, inside)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(first, signal.SIGKILL)  # where the kernel did not: its namespace ends with it


def children_of(pid: int) -> list[int]:
    return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def first_process(outermost: int) -> int:
    """The PID 1 of the lab's PID namespace: the grandchild of the outermost process."""
    (middle,) = children_of(outermost)
    (first,) = children_of(middle)
    return first


def test_a_killed_measurement_leaves_nothing(tmp_path):
    scratch = release.scratch()
    before, cached = what_is_there(), names_in(release.cache_root())
    process = subprocess.Popen(
        [LAB, "bench", "failover", "--trials", "1", "--method", "controller",
         "--out", tmp_path / "run"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT,
    )  # fmt: skip
    try:
        wait_for(
            "a capture in its folder",
            lambda: any(
                is_there(f"/proc/{pid}/root{scratch}/pcap/h1.pcap")
                for pid in started_by(process.pid)
            ),
            seconds=40,
        )
        everything = started_by(process.pid)
        inside = namespaces(everything)
    finally:
        process.kill()
        process.wait(20)
    nothing_is_left(before, everything, inside)
    assert names_in(release.cache_root()) == cached
    assert not names_in(scratch)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_at_once(number, tmp_path):
    out = tmp_path / "run"
    process = start("port-loss", out)
    try:
        wait_for("the load", lambda: reached(out, "load"), seconds=40, every=0.01)
        everything = started_by(process.pid)
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(10) == 130
        assert time.monotonic() - began < 2.0
    finally:
        process.kill()
        process.wait(20)
    assert dead(everything)


def test_two_labs_at_once(tmp_path):
    both = [start("port-takeover", tmp_path / name) for name in ("one", "two")]
    try:
        assert [process.wait(100) for process in both] == [0, 0]
    finally:
        for process in both:
            process.kill()
            process.wait(20)


def test_an_ordinary_user_needs_no_sudo(lab_command):
    """Drops to a user id that owns nothing but its folder, and runs a lab."""
    with ordinary_user() as user:
        ran = lab_command(
            "run", "port-redirection", "--json", "--out", user.home / "run", prefix=user.prefix,
            env=user.environment, cwd=user.home,
        )  # fmt: skip
        assert ran.status == 0, ran.err + ran.out
        assert ran.results[0]["verdict"] == "pass"
