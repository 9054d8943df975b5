"""Measures a fail-over: `controller_speed.py SWITCH_PID ADDRESS TIMES`, in the array's namespace.

From just before the switch's end of port p1 is set down (by netlink, no process) to the kernel's
event that the address is on another port; milliseconds.
"""

from __future__ import annotations

import json
import select
import socket
import statistics
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
from lab.controller import netlink
from lab.sandbox import in_network_of


def switch_socket(pid: int) -> tuple[socket.socket, int]:
    """A netlink socket in the switch's namespace, and the number of s1-p1 there."""

    def make() -> tuple[socket.socket, int]:
        found = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        return found, socket.if_nametoindex("s1-p1")

    return in_network_of(pid, make)


def main() -> None:
    pid, address, times = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    switch, index = switch_socket(pid)
    home = socket.if_nametoindex("a1-p1")
    events = netlink.events()

    def set_link(up: bool) -> None:
        body = struct.pack("=BxHiII", 0, 0, index, int(up), 1)
        switch.send(netlink.HEADER.pack(32, netlink.RTM_NEWLINK, 5, 1, 0) + body)
        switch.recv(4096)

    def arrival(at_home: bool) -> float:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            select.select([events], [], [], 1.0)
            for message in netlink.read(events):
                if not isinstance(message, netlink.OnLink) or message.gone:
                    continue
                if message.address == address and (message.index == home) == at_home:
                    return time.perf_counter()
        raise SystemExit(f"{address} did not move")

    took = []
    for _ in range(times):
        begun = time.perf_counter()
        set_link(False)
        took.append(1000 * (arrival(at_home=False) - begun))
        set_link(True)
        arrival(at_home=True)
        # Let it come to rest: what is measured is a fail-over, not a storm of them.
        select.select([], [], [], 0.02)
    took.sort()
    print(
        json.dumps(
            {
                "times": times,
                "min_ms": round(took[0], 3),
                "median_ms": round(statistics.median(took), 3),
                "p99_ms": round(took[min(len(took) - 1, int(0.99 * len(took)))], 3),
                "max_ms": round(took[-1], 3),
            }
        )
    )


if __name__ == "__main__":
    main()
