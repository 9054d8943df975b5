"""A watcher of a guest kernel's addresses: `ip monitor` in the guest."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from lab.commands import Runner
from lab.errors import LabError
from lab.observe.addresses import is_local
from lab.timeline import Timeline
from lab.waiting import wait_for

# The output of ip(8) with -o; -ts puts the time before it; "Deleted" only when monitoring.
_LINE = re.compile(
    r"(?:\[(?P<time>[^\]]+)\] ?)?(?P<deleted>Deleted )?\d+: (?P<interface>\S+)\s+inet6? "
    r"(?P<address>[0-9a-f.:]+)[/ ]"
)
_MARK = "192.0.2.1"  # TEST-NET-1, RFC 5737: no address of a lab


class GuestAddressWatcher:
    """AddressWatcher for the kernel of the guest that `runner` reaches.

    Like AddressWatcher, for the kernel of the guest behind `runner`. `log` gets ip's error
    messages. Times are from the guest's clock, when ip printed the change.
    """

    def __init__(
        self, timeline: Timeline, runner: Runner, names: Mapping[str, str], log: Path
    ) -> None:
        self._timeline, self._runner, self._names, self._log = timeline, runner, dict(names), log
        self._up: set[tuple[str, str]] = set()
        self._listens = threading.Event()

    def __enter__(self) -> GuestAddressWatcher:
        """Start watching; on return the present addresses are on the timeline."""
        self._process = self._runner.start(
            ["ip", "-o", "-ts", "monitor", "address"],
            log=self._log, on_line=self._hear, env={"TZ": "UTC0"},
        )  # fmt: skip
        wait_for("ip monitor to listen", self._call, seconds=10.0)
        shown = self._runner.run(["ip", "-o", "address", "show"]).output
        for line in shown.splitlines():
            self._hear(line)
        return self

    def _call(self) -> bool:
        """Add and remove a test address; returns whether ip monitor has reported any change."""
        for act in ("add", "del"):
            self._runner.run(["ip", "address", act, f"{_MARK}/32", "dev", "lo"], check=False)
        return self._listens.wait(0.05)

    def _hear(self, line: str) -> None:
        found = _LINE.match(line)
        if not found:
            if "buffer" in line:
                self._timeline.add("array", "watch-gap", what=f"ip monitor: {line}")
            return
        self._listens.set()
        address = found["address"]
        if address == _MARK or is_local(address):
            return
        told = found["time"]
        t = datetime.fromisoformat(told).replace(tzinfo=UTC).timestamp() if told else time.time()
        key = (self._names.get(found["interface"], found["interface"]), address)
        if found["deleted"]:
            self._change(t, key, "del")
        else:
            self._change(t, key, "add")

    def _change(self, t: float, key: tuple[str, str], op: str) -> None:
        if (key in self._up) == (op == "add"):
            return  # the kernel repeats an address when its lifetime or flags change
        (self._up.add if op == "add" else self._up.discard)(key)
        where, address = key
        self._timeline.add(where, "address", t=t, address=address, op=op, source="kernel")

    def lost(self) -> None:
        """Record that all addresses went down with the guest's power."""
        for key in sorted(self._up):
            self._change(time.time(), key, "del")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        with contextlib.suppress(LabError):  # the guest may be gone, and ip with it
            self._process.kill()
