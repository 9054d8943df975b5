"""The cost of the relay: 64 KiB I/O at queue depth 16 to a real tgtd, direct and relayed.

`qemu-img bench` with libiscsi measures both ways in turn, on the same disk, for reads and writes.
It runs in another network namespace than the array.
"""

from __future__ import annotations

import contextlib
import re
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab.array.site import Site
from lab.commands import LocalRunner, Runner, require
from lab.errors import LabError, Missing
from lab.waiting import wait_for
from targets.base import LogicalUnit, TargetSpec
from targets.relay.process import RelayProcess
from targets.tgt.engine import Tgt

ADDRESS, DIRECT, THROUGH = "10.0.0.12", 3261, 3260
IQN = "iqn.2024-01.lab.a1:bench"
DISK_BYTES, BLOCK, DEPTH = 256 << 20, 65536, 16
FLOOR = 0.6
"""The share of the direct throughput that the relay must reach."""

_DONE = re.compile(r"Run completed in ([0-9.]+) seconds")


@contextlib.contextmanager
def namespace(name: str) -> Iterator[tuple[LocalRunner, int]]:
    """A network namespace while entered, and a process in it; raises Missing without the right."""
    argv = ["unshare", "-n", "sleep", "infinity"]
    holder = subprocess.Popen(argv, stderr=subprocess.PIPE)
    try:
        mine, theirs = Path("/proc/self/ns/net").readlink(), Path(f"/proc/{holder.pid}/ns/net")
        wait_for(
            "a network namespace",
            lambda: holder.poll() is not None or theirs.readlink() != mine,
            seconds=5,
        )
        if holder.poll() is not None:
            raise Missing("the benchmark makes network namespaces; run it as root")
        yield LocalRunner(name, holder.pid), holder.pid
    finally:
        holder.kill()
        holder.communicate()


def _seconds(host: Runner, port: int, write: bool, requests: int, digest: str) -> float:
    """Seconds that `requests` blocks take."""
    image = f"driver=raw,file.driver=iscsi,file.transport=tcp,file.portal={ADDRESS}:{port}"
    image += f",file.target={IQN},file.lun=1,file.header-digest={digest}"
    argv = ["qemu-img", "bench", "-c", str(requests), "-d", str(DEPTH), "-s", str(BLOCK), "-n"]
    argv += ["-t", "none", *(["-w"] if write else []), "--image-opts", image]
    output = host.run(argv, seconds=300).output
    found = _DONE.search(output)
    if not found:
        raise LabError(f"qemu-img bench printed no time: {output[-500:]}")
    return float(found[1])


def measure(
    folder: Path, *, rounds: int = 15, requests: int = 5000, digest: str = "none"
) -> dict[str, Any]:
    """Run the benchmark with its files in `folder`; raises Missing for a program or right.

    Per operation ("read", "write"): MB/s (10^6 bytes) `direct` and `through` the relay, one figure
    per round; `ratio` is the median of the rounds' shares, `lowest` the least. `ok`: both ratios
    are at least FLOOR. Many short rounds, because three busy programs on two processors vary by a
    third between rounds. `digest`: libiscsi's header digest, "none" or "crc32c".
    """
    require("qemu-img", "qemu-utils qemu-block-extra")
    with contextlib.ExitStack() as stack:
        array, _ = stack.enter_context(namespace("a1"))
        host, pid = stack.enter_context(namespace("h1"))
        link = f"link add a1-p2 type veth peer name h1-eth0 netns {pid}"
        on = [link, "link set lo up", "link set a1-p2 up", f"addr add {ADDRESS}/24 dev a1-p2"]
        array.run(["ip", "-batch", "-"], stdin="\n".join(on))
        on = ["link set h1-eth0 up", "addr add 10.0.0.101/24 dev h1-eth0"]
        host.run(["ip", "-batch", "-"], stdin="\n".join(on))
        engine = Tgt(array, folder / "work", folder / "logs")
        engine.start()
        stack.callback(engine.stop)
        disk = LogicalUnit(1, folder / "disk", DISK_BYTES, "b0000001", "BENCH1")
        engine.create(TargetSpec(IQN, (disk,)))
        engine.expose(f"{ADDRESS}:{DIRECT}")
        ports = [{"name": "p2", "listen": [f"{ADDRESS}:{THROUGH}"], "backend": engine.local_portal}]
        relay = RelayProcess(Site(array, folder), {"name": "a1", "ports": ports}, folder)
        stack.callback(relay.stop)
        result: dict[str, Any] = {"block": BLOCK, "depth": DEPTH, "requests": requests}
        for name, write in (("read", False), ("write", True)):
            figures: dict[str, list[float]] = {"direct": [], "through": []}
            for _ in range(rounds):
                for way, port in (("direct", DIRECT), ("through", THROUGH)):
                    took = _seconds(host, port, write, requests, digest)
                    figures[way].append(round(requests * BLOCK / took / 1e6, 1))
            shares = [b / a for a, b in zip(figures["direct"], figures["through"], strict=True)]
            result[name] = {
                **figures,
                "ratio": round(statistics.median(shares), 3),
                "lowest": round(min(shares), 3),
            }
        wait_for(
            "the relay's count of bytes",
            lambda: len(relay.found("closed")) == len(relay.found("accepted")),
            seconds=5,
        )
        moved = sum(event["bytes_to_target"] for event in relay.found("closed"))
        if moved < rounds * requests * BLOCK:
            raise LabError(f"only {moved} bytes of the writes went through the relay")
        result["ok"] = min(result["read"]["ratio"], result["write"]["ratio"]) >= FLOOR
        return result


def summary(found: dict[str, Any]) -> str:
    """The result of measure() in words, a line per operation."""
    lines = []
    for operation in ("read", "write"):
        figures = found[operation]
        direct, through = (statistics.median(figures[way]) for way in ("direct", "through"))
        lines.append(
            f"{operation:6} direct {direct:.0f} MB/s, through the relay {through:.0f} MB/s: "
            f"{figures['ratio']:.0%}; the minimum is {FLOOR:.0%}"
        )
    return "\n".join(lines)
