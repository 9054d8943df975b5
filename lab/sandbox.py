"""Private namespaces that hold a whole lab; when their first process dies, all of it ends.

There are three processes. The outermost one, which the user started, stays in its namespaces. The
middle one makes network, mount, PID, IPC and UTS namespaces, and a user namespace if it may not
make the others. PID 1 of the PID namespace mounts /proc and /sys, starts the worker, forwards
signals to it, and reaps. The kernel kills every process of a PID namespace with its PID 1
(pid_namespaces(7)). Each of the three dies with the one before it (PR_SET_PDEATHSIG), so SIGKILL to
any of them leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import TypeVar

from lab.errors import Missing

_CLONE = {"ns": 0x00020000, "uts": 0x04000000, "ipc": 0x08000000, "pid": 0x20000000}
_CLONE_NEWNET, _CLONE_NEWUSER = 0x40000000, 0x10000000
_ALL = sum(_CLONE.values()) | _CLONE_NEWNET
_MS_REC, _MS_PRIVATE, _MS_BIND = 0x4000, 0x40000, 0x1000
_MS_SHARED, _MS_REMOUNT = 0x100000, 0x20
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 0x1, 0x2, 0x4, 0x8
_LOCKED = {
    os.ST_NOSUID: _MS_NOSUID, os.ST_NODEV: _MS_NODEV, os.ST_NOEXEC: _MS_NOEXEC,
    os.ST_NOATIME: 0x400, os.ST_NODIRATIME: 0x800, os.ST_RELATIME: 0x200000,
}  # fmt: skip
"""Flags that a remount must repeat, because an ordinary user may not take them off (mount(2))."""
_MNT_DETACH = 2
_PR_SET_PDEATHSIG = 1
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_INTERRUPTED, _BUG = 130, 70

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)

HOW_TO_ALLOW = (
    "run the command with sudo, or allow user namespaces for everybody: "
    "sudo sysctl -w user.max_user_namespaces=10000, and where these exist also "
    "kernel.unprivileged_userns_clone=1 and kernel.apparmor_restrict_unprivileged_userns=0"
)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: Path, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2); raises OSError that names the target."""
    done = _libc.mount(
        source.encode(), os.fsencode(target), kind.encode() or None, flags, data.encode() or None
    )
    _check(done, f"mount {kind or source} on {target}")


def mount_tmpfs(target: Path) -> None:
    """Mount an empty file system in memory on the directory `target`."""
    mount("tmpfs", target, "tmpfs", _MS_NOSUID, "mode=755")


def unmount(target: Path) -> None:
    """Detach the mounts at `target` and below; each ends with its last user (umount2(2))."""
    _check(_libc.umount2(os.fsencode(target), _MNT_DETACH), f"unmount {target}")


def bind(source: Path, target: Path, *, read_only: bool = False) -> None:
    """Bind-mount `source`, with the mounts below it, at `target`.

    `read_only` means the mount of `source` itself, without those below it.
    """
    mount(str(source), target, flags=_MS_BIND | _MS_REC)
    if read_only:
        make_read_only(target)


def make_read_only(target: Path) -> None:
    """Let nobody write by way of the mount at `target`; mounts below it stay as they are."""
    now = os.statvfs(target).f_flag
    kept = sum(flag for shown, flag in _LOCKED.items() if now & shown)
    mount("none", target, flags=_MS_REMOUNT | _MS_BIND | _MS_RDONLY | kept)


def share(target: Path) -> None:
    """What is mounted at and below the mount `target` later, appears in copies of it too."""
    mount("none", target, flags=_MS_SHARED)


def set_network_namespace(pid: int) -> None:
    """Move the calling thread into the network namespace of process `pid` (setns(2))."""
    with Path(f"/proc/{pid}/ns/net").open("rb") as handle:
        _check(_libc.setns(handle.fileno(), _CLONE_NEWNET), f"enter the network of process {pid}")


def in_network_of(pid: int, work: Callable[[], T]) -> T:
    """Call `work` in a thread that has entered the network namespace of process `pid`.

    Each thread has its own namespace, and a socket stays in the namespace where it was opened.
    Raises OSError if the namespace cannot be entered.
    """

    def enter() -> T:
        set_network_namespace(pid)
        return work()

    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(enter).result()


def _unshare() -> None:
    uid, gid = os.geteuid(), os.getegid()
    if _libc.unshare(_ALL) == 0:
        return
    if _libc.unshare(_ALL | _CLONE_NEWUSER) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise Missing(f"this machine forbids namespaces ({reason}); {HOW_TO_ALLOW}")
    try:
        # setgroups must be denied before an unprivileged gid_map (user_namespaces(7)).
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    except OSError as refused:
        raise Missing(f"user namespaces are restricted ({refused}); {HOW_TO_ALLOW}") from None


def _prepare_mounts() -> None:
    mount("none", Path("/"), flags=_MS_REC | _MS_PRIVATE)
    mount("proc", Path("/proc"), "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    # /sys shows the interfaces of the network namespace that mounted it.
    mount("sysfs", Path("/sys"), "sysfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)


def _forward(signals: tuple[signal.Signals, ...], pid: int) -> None:
    def pass_on(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    for number in signals:
        signal.signal(number, pass_on)


def _status(raw: int) -> int:
    code = os.waitstatus_to_exitcode(raw)
    return code if code >= 0 else 128 - code


def _first_process(alive: int, work: Callable[[], int]) -> int:
    _die_with_parent(alive)
    try:
        _prepare_mounts()
    except OSError as refused:
        print(f"lab: the sandbox cannot be made ({refused}); {HOW_TO_ALLOW}", file=sys.stderr)
        return 3
    # Signals stay blocked until the handlers are set, so that none is lost.
    worker = os.fork()
    if worker == 0:
        _run_and_exit(work)
    _forward(_FORWARDED, worker)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    while True:
        pid, raw = os.waitpid(-1, 0)
        if pid == worker:
            return _status(raw)


def _run_and_exit(work: Callable[[], int]) -> None:
    interrupted = False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            os._exit(_INTERRUPTED)  # a second signal during clean-up: the kernel does the rest
        interrupted = True
        raise KeyboardInterrupt

    status = _BUG
    try:
        for number in _FORWARDED:
            signal.signal(number, interrupt)
        # Signals were blocked until now: earlier they would end the worker or unwind the copy of
        # our caller's stack in this process.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
        status = work()
    except KeyboardInterrupt:
        status = _INTERRUPTED  # the outermost process reports it
    except BaseException:
        traceback.print_exc()  # a bug of ours: `work` handles all other errors
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        # Not sys.exit: threads and children end with the namespace.
        os._exit(status)


def run(work: Callable[[], int]) -> int:
    """Run `work` in a new sandbox and return its exit status (130 if interrupted).

    The calling process must have one thread; it stays in its own namespaces. If the machine forbids
    the namespaces, the status is 3 and the reason is on standard error.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    alive, held = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    middle = os.fork()
    if middle == 0:
        os.close(held)
        _exit_with(lambda: _middle_process(alive, work))
    os.close(alive)
    before = {number: signal.getsignal(number) for number in _FORWARDED}
    _forward(_FORWARDED, middle)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    try:
        _, raw = os.waitpid(middle, 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(held)
    return _status(raw)


def _exit_with(part: Callable[[], int]) -> None:
    """End this process with the status that `part` returns; no exception gets past this."""
    status = _BUG
    try:
        status = part()
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(status)


def _die_with_parent(alive: int) -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have died before prctl took effect. Then the outermost process, which dies with
    # its parent too, has closed its pipe or is about to.
    poll = select.poll()
    poll.register(alive, 0)
    if poll.poll(0):
        os._exit(1)


def _middle_process(alive: int, work: Callable[[], int]) -> int:
    """The process between the outermost one and PID 1; only it changes its namespaces."""
    _die_with_parent(alive)
    # In a new session, a terminal's Ctrl-C reaches the worker once, forwarded by the outermost
    # process, and does not reach the lab's processes.
    os.setsid()
    try:
        _unshare()
    except (Missing, OSError) as refused:
        print(f"lab: {refused}", file=sys.stderr)
        return 3
    first = os.fork()
    if first == 0:
        _exit_with(lambda: _first_process(alive, work))
    _forward(_FORWARDED, first)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    _, raw = os.waitpid(first, 0)
    return _status(raw)
