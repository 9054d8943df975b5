"""Two network namespaces for tests of the targets: an array's and one for all hosts."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.commands import LocalRunner
from lab.waiting import wait_for

PORTS = ("10.0.0.11", "10.0.0.12", "10.0.0.13")
VIRTUAL, VIRTUAL6, PORT6 = "10.0.0.1", "fd00::1", "fd00::12"
HOSTS = ("10.0.0.101", "10.0.0.102", "10.0.0.103")
HOST6 = "fd00::101"


def initiator_name(source: str) -> str:
    """The initiator name of the host at `source`."""
    return f"iqn.2024-01.lab.h{source[-1]}:host"


@dataclass
class Net:
    array: LocalRunner
    hosts: LocalRunner
    hosts_pid: int


@contextlib.contextmanager
def namespace(name: str) -> Iterator[tuple[LocalRunner, int]]:
    """A network namespace that lives as long as a process of ours."""
    holder = subprocess.Popen(["unshare", "-n", "sleep", "infinity"], stderr=subprocess.PIPE)
    try:
        mine = Path("/proc/self/ns/net").readlink()
        theirs = Path(f"/proc/{holder.pid}/ns/net")
        wait_for(
            "a namespace",
            lambda: holder.poll() is not None or theirs.readlink() != mine,
            seconds=5,
        )
        if holder.poll() is not None:
            pytest.skip("needs to be root, or in a sandbox: unshare -n is not allowed")
        yield LocalRunner(name, holder.pid), holder.pid
    finally:
        holder.kill()
        holder.communicate()


@contextlib.contextmanager
def network() -> Iterator[Net]:
    """An array with three ports' addresses and a virtual one, and three hosts, on one veth."""
    if os.geteuid():
        pytest.skip("needs to be root, or in a sandbox")
    with namespace("a1") as (array, _), namespace("hosts") as (hosts, pid):
        link = f"link add a1-p1 type veth peer name h-eth0 netns {pid}"
        on = [link, "link set lo up", "link set a1-p1 up"]
        on += [f"addr add {a}/24 dev a1-p1" for a in (VIRTUAL, *PORTS)]
        on += [f"addr add {a}/64 dev a1-p1 nodad" for a in (VIRTUAL6, PORT6)]
        array.run(["ip", "-batch", "-"], stdin="\n".join(on))
        on = ["link set h-eth0 up"] + [f"addr add {a}/24 dev h-eth0" for a in HOSTS]
        on += [f"addr add {HOST6}/64 dev h-eth0 nodad"]
        hosts.run(["ip", "-batch", "-"], stdin="\n".join(on))
        yield Net(array, hosts, pid)
