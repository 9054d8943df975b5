"""A watcher of a guest kernel's addresses: `ip monitor` in the guest."""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from lab.commands import Runner
from lab.errors import CommandFailed, LabError, WaitTimeout
from lab.evidence import Evidence
from lab.observe.addresses import is_local
from lab.timeline import Timeline
from lab.waiting import wait_for

# The output of ip(8) with -o; -ts puts the time before it; "Deleted" only when monitoring.
_LINE = re.compile(
    r"(?:\[(?P<time>[^\]]+)\] ?)?(?P<deleted>Deleted )?\d+: (?P<interface>\S+)\s+inet6? "
    r"(?P<address>[0-9a-f.:]+)[/ ]"
)
_MARKS = "192.0.2."  # TEST-NET-1, RFC 5737: no address of a lab
_OVERRUN = "netlink receive error"
"""What ip(8) says, on standard error, when the kernel had to drop notifications (rtnl_listen)."""
_LOOK_S = 0.05
_LISTEN_S, _END_S = 10.0, 30.0

Key = tuple[str, str]
"""A port, or an interface that is none, and an address."""


class GuestAddressWatcher:
    """AddressWatcher for the kernel of the guest that `runner` reaches; ip's own words go to `log`.

    Times are of notification, by the guest's clock. If ip ends early or had to drop notifications,
    its evidence has a gap, and the missed changes follow late. If the guest itself is gone, there
    is nothing left to watch: that is no gap.
    """

    def __init__(
        self, timeline: Timeline, runner: Runner, names: Mapping[str, str], log: Path
    ) -> None:
        self._timeline, self._runner, self._names, self._log = timeline, runner, dict(names), log
        self._evidence = Evidence(timeline, runner.host, "addresses")
        self._up: set[Key] = set()
        # Guards what the thread that hears and the one that minds both use.
        self._lock = threading.Lock()
        self._held: list[tuple[Key, bool]] | None = None
        self._numbers = itertools.cycle(range(1, 255))
        self._marks: set[str] = set()
        self._marked, self._missed = threading.Event(), threading.Event()
        self._over = threading.Event()
        self._dark = False
        self._heard = time.time()
        self._broke = ""
        self._mind = threading.Thread(target=self._watch, name="ip-monitor", daemon=True)

    def __enter__(self) -> GuestAddressWatcher:
        """Start watching; on return the present addresses are on the timeline."""
        self._process = self._runner.start(
            # Both outputs in one, so that a loss is heard where it was.
            ["sh", "-c", "exec ip -o -ts monitor address 2>&1"],
            log=self._log, on_line=self._hear, env={"TZ": "UTC0"},
        )  # fmt: skip
        try:
            self._catch_up()
        except BaseException:
            with contextlib.suppress(LabError):
                self._process.kill()
            raise
        self._evidence.begin()
        self._mind.start()
        return self

    def _watch(self) -> None:
        """Mind that ip goes on, and what it has missed, until all is over."""
        while True:
            over, missed = self._over.is_set(), self._missed.wait(_LOOK_S)
            if self._dark or self._ended():
                return
            if missed:
                try:
                    self._catch_up()
                except LabError as broken:
                    if not self._dark and not self._ended():
                        self._evidence.broke(f"what ip monitor missed was not found: {broken}")
                    return
            elif over:
                return

    def _ended(self) -> bool:
        """Whether ip has ended; a gap, unless its guest is gone as well."""
        status = self._process.poll()
        if status is None:
            return False
        try:
            self._runner.run(["true"], seconds=5.0)
        except (CommandFailed, WaitTimeout):
            pass  # the guest is there, but busy
        except LabError:
            return True
        self._evidence.broke(f"ip monitor ended (status {status}) before it was asked to")
        return True

    def _catch_up(self) -> None:
        """Bring what is known in line with what the guest's kernel lists.

        What ip tells may be older than the list, and have holes. So it is held back from a mark on,
        a change of our own, to another one after the list, and counts together with the list: only
        what differs in the end is told. What it told before the first mark is in the list.
        """
        while True:
            with self._lock:
                self._missed.clear()
                self._held = []
            self._call()
            with self._lock:
                self._held = []
            shown = self._runner.run(["ip", "-o", "address", "show"]).output
            listed = [found for line in shown.splitlines() if (found := self._read(line))]
            self._call()
            with self._lock:
                if self._dark:
                    return
                if self._missed.is_set():
                    continue
                up: set[Key] = set()
                for key, there in [*(found[:2] for found in listed), *self._held]:
                    (up.add if there else up.discard)(key)
                self._held, t = None, time.time()
                for key in sorted(self._up - up):  # first: none may seem to have two owners
                    self._change(t, key, False)
                for key in sorted(up - self._up):
                    self._change(t, key, True)
                return

    def _call(self) -> None:
        """Return once ip has told of a change of our own: all that was before it has been told."""
        self._marks.clear()
        self._marked.clear()
        wait_for("ip monitor to listen", self._mark, seconds=_LISTEN_S)

    def _mark(self) -> bool:
        address = f"{_MARKS}{next(self._numbers)}"
        self._marks.add(address)
        for act in ("add", "del"):
            self._runner.run(["ip", "address", act, f"{address}/32", "dev", "lo"], check=False)
        return self._marked.wait(0.05)

    def _hear(self, line: str) -> None:
        try:
            self._take(line)
        except Exception as broken:
            self._break(f"the watcher of addresses broke: {broken}, at {line!r}")

    def _take(self, line: str) -> None:
        if _OVERRUN in line:
            self._evidence.gap(f"ip monitor: {line}", since=self._heard)
            with self._lock:
                self._held = []  # from here on it has holes
                self._missed.set()
            return
        found = _LINE.match(line)
        if not found:
            with self._log.open("a", encoding="utf-8") as log:
                log.write(f"{line}\n")
        elif found["interface"] == "lo" and found["address"].startswith(_MARKS):
            if found["address"] in self._marks:
                self._marked.set()
        elif told := self._read(line):
            key, there, t = told
            self._heard = t
            with self._lock:
                if self._held is not None:
                    self._held.append((key, there))
                else:
                    self._change(t, key, there)

    def _read(self, line: str) -> tuple[Key, bool, float] | None:
        """Which address it is about, whether that is up, and since when; None if it is about none
        that an observer tells of."""
        found = _LINE.match(line)
        if not found or found["interface"] == "lo" or is_local(found["address"]):
            return None
        told = found["time"]
        t = datetime.fromisoformat(told).replace(tzinfo=UTC).timestamp() if told else time.time()
        key = (self._names.get(found["interface"], found["interface"]), found["address"])
        return key, not found["deleted"], t

    def _change(self, t: float, key: Key, there: bool) -> None:
        if (key in self._up) == there:
            return  # the kernel repeats itself, on a change of lifetime or flags
        (self._up.add if there else self._up.discard)(key)
        where, address = key
        op = "add" if there else "del"
        self._timeline.add(where, "address", t=t, address=address, op=op, source="kernel")

    def lost(self) -> None:
        """The guest's power was cut: no address is up any more."""
        with self._lock:
            self._dark = True
            for key in sorted(self._up):
                self._change(time.time(), key, False)
            self._evidence.end()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, once what was missed is on the timeline."""
        self._over.set()
        self._mind.join(_END_S)
        if self._mind.is_alive():
            self._break(f"what ip monitor missed was not found within {_END_S:g} s")
        try:
            self._process.kill()
        except LabError as lost:
            if not self._dark:  # else it ended with its guest
                self._break(f"ip monitor was not heard to its end: {lost}")
        self._evidence.end()
        if self._broke and error is None:
            raise LabError(f"{self._runner.host}: {self._broke}")

    def _break(self, why: str) -> None:
        if not self._broke:
            self._broke = why
            self._evidence.broke(why)
