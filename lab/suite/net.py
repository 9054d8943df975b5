"""An array and all hosts, for tests of the targets: two network namespaces, or a guest and one."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from mininet.log import setLogLevel

from lab import sandbox
from lab.array.site import GuestSite
from lab.commands import LocalRunner, Runner
from lab.guest import image as release
from lab.guest.cage import GuestSpace
from lab.guest.kernel_host import KernelHost
from lab.guest.ssh import Keys
from lab.timeline import Timeline
from lab.waiting import wait_for

PORTS = ("10.0.0.11", "10.0.0.12", "10.0.0.13")
VIRTUAL, VIRTUAL6, PORT6 = "10.0.0.1", "fd00::1", "fd00::12"
HOSTS = ("10.0.0.101", "10.0.0.102", "10.0.0.103")
HOST6 = "fd00::101"
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x00020000, 0x4000, 1 << 18


def initiator_name(source: str) -> str:
    """The initiator name of the host at `source`."""
    return f"iqn.2024-01.lab.h{source[-1]}:host"


@dataclass
class Net:
    """Where the array's commands run, where the hosts' do, and the array's kernel if it has one."""

    array: Runner
    hosts: LocalRunner
    hosts_pid: int
    guest: GuestSite | None = None


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
        array.run(
            ["ip", "link", "add", "a1-p1", "type", "veth", "peer", "h-eth0", "netns", str(pid)]
        )
        _address(array, "a1-p1", (VIRTUAL, *PORTS), (VIRTUAL6, PORT6))
        _address(hosts, "h-eth0", HOSTS, (HOST6,))
        yield Net(array, hosts, pid)


def _cable(pid: int) -> list[str]:
    return f"ip link add a1-p1 type veth peer h-eth0 netns {pid}".split()


def _address(runner: Runner, interface: str, four: Sequence[str], six: Sequence[str]) -> None:
    on = ["link set lo up", f"link set {interface} up"]
    on += [f"addr add {a}/24 dev {interface}" for a in four]
    on += [f"addr add {a}/64 dev {interface} nodad" for a in six]
    runner.run(["ip", "-batch", "-"], stdin="\n".join(on))


@contextlib.contextmanager
def guest_network(work: Path, disks: Path, start: str = GuestSite.start) -> Iterator[Net]:
    """The same with a kernel of the array's own, whose disks are files below `disks`.

    `work` must be empty. The mounts of the calling process become its own, for ever.
    """
    image = release.find(release.DEFAULT_RELEASE)
    if os.geteuid():
        pytest.skip("needs to be root, or in a sandbox")
    if image is None:
        pytest.skip(f"no image of {release.DEFAULT_RELEASE}; `lab image build` makes it")
    if ctypes.CDLL(None).unshare(CLONE_NEWNS):
        pytest.skip("mounts of its own are not allowed here")
    sandbox.mount("none", Path("/"), flags=MS_REC | MS_PRIVATE)
    setLogLevel("critical")
    # Its power goes before its cable does, which ends with the other namespace.
    with namespace("hosts") as (hosts, pid), contextlib.ExitStack() as undo:
        sandbox.mount_tmpfs(work)
        undo.callback(sandbox.unmount, work)
        space = GuestSpace.prepare(image, work)
        kernel = KernelHost("a1")
        undo.callback(kernel.terminate)
        LocalRunner("a1", kernel.pid).run(_cable(pid))
        kernel.prepare(
            space, Keys.make(), Timeline(), work,
            addresses={"a1-p1": []}, programs=GuestSite.programs(), start=start,
        )  # fmt: skip
        undo.callback(kernel.power_cut)
        kernel.power_on()
        site = GuestSite(kernel, disks)
        site.wait_ready()
        _address(hosts, "h-eth0", HOSTS, (HOST6,))
        net = Net(site.runner, hosts, pid, site)
        booted(net)
        yield net


def booted(net: Net) -> None:
    """Give a guest that has just booted its addresses."""
    assert net.guest
    net.array = net.guest.runner
    _address(net.array, "p1", (VIRTUAL, *PORTS), (VIRTUAL6, PORT6))
