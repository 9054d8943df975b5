"""The content of a guest's second disk: start script, keys, and programs (see files/init)."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Mapping
from importlib import resources

from lab.guest.ssh import Keys

INSIDE, PREFIX = "169.254.0.2", 30
"""The guest's address at its management interface."""

# An interrupt that comes while frames are processed overwrites epoll events not yet read
# (epoll_events, arch/um/os-Linux/irq.c). A disk's answer then stayed unread until the next one
# came, after a minute or never. NAPI threads avoid that: they process frames with interrupts on.
# They get the highest priority. Arrays do not use them: the threads would wait behind those of LIO
# for longer than probes take to find a port silent. In an array the next probe wakes the cards, and
# a regular block read wakes the disk.
HOST_START = """\
read -r _ _ _ _ last </proc/loadavg
for card in /sys/class/net/*/threaded; do echo 1 2>/dev/null >$card; done
threads=
while read -r name 2>/dev/null </proc/$((last += 1))/comm; do
  case $name in napi/*) threads="$threads $last" ;; esac
done
[ -z "$threads" ] || /bin/busybox renice -n -20 -p $threads >/dev/null"""

_START = """\
ip=/bin/busybox\\ ip
hostname() { /bin/busybox hostname "$@"; }
hostname %(name)s
$ip link set lo up
$ip addr add %(inside)s/%(prefix)d dev mgmt0
$ip link set mgmt0 up
/bin/busybox mkdir -p /run/lock
/bin/busybox mkdir -p -m 700 /root/.ssh
/bin/busybox cp /run/lab/authorized_keys /root/.ssh/authorized_keys
/bin/busybox chmod 600 /root/.ssh/authorized_keys
%(more)s
exec /usr/sbin/dropbear -F -E -m -s -r /run/lab/hostkey -p %(inside)s:22
"""


def pack(
    name: str,
    addresses: Mapping[str, list[str]],
    start: str,
    keys: Keys,
    programs: Mapping[str, bytes],
) -> bytes:
    """The tar archive for guest `name`; parameters as of KernelHost.prepare()."""
    more = [f"$ip link set vec{len(addresses)} name mgmt0"]
    six = any(":" in address for found in addresses.values() for address in found)
    lines = ["modprobe ipv6"] if six else []  # a module here
    for index, interface in enumerate(addresses):
        short = interface.removeprefix(f"{name}-")
        lines += [f"$ip link set vec{index} name {short}", f"$ip link set {short} up"]
        for address in addresses[interface]:
            # busybox has no nodad.
            ip, nodad = ("/bin/ip", " nodad") if ":" in address else ("ip", "")
            lines.append(f"{ip} addr add {address} dev {short}{nodad}")
    text = _START % {
        "name": name, "inside": INSIDE, "prefix": PREFIX, "more": "\n".join([*lines, start]),
    }  # fmt: skip
    text = text.replace("$ip addr add", "\n".join(more) + "\n$ip addr add", 1)
    files = {
        "start": text.encode(),
        "authorized_keys": keys.authorized.encode(),
        "hostkey": keys.host_file,
        **programs,
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member_name, data in files.items():
            member = tarfile.TarInfo(member_name)
            member.size, member.mode, member.mtime = len(data), 0o700, int(time.time())
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def guest_program(name: str) -> bytes:
    """The bytes of a program in lab/guest/files, for `programs` of KernelHost.prepare()."""
    return resources.files("lab.guest").joinpath(f"files/{name}").read_bytes()


def guest_packages(*names: str) -> dict[str, bytes]:
    """The modules of Python packages, without subpackages, for `programs`: below /run/lab."""
    return {
        f"{name.replace('.', '/')}/{module.name}": module.read_bytes()
        for name in names
        for module in resources.files(name).iterdir()
        if module.name.endswith(".py")
    }
