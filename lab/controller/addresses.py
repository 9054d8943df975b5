"""The hands: a long-running `ip` process that moves addresses.

Several ports are in one subnet. Packets from an address must leave through the port that has it,
so every address has its own routing table and a rule `from ADDRESS lookup TABLE`. A move is one
write to `ip`: point the table to the new port, remove the address there, add it here.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lab.controller.config import Config, Place
from lab.controller.model import FOREIGN, Action, AddAddress, RemoveAddress

DIE_AT = "LAB_CONTROLLER_DIE_AT"
"""Environment variable for tests: SIGKILL this process after it wrote that many lines."""
MARKER = "done"
"""Not an `ip` command: the error that `ip` prints for it tells that the lines before are done."""
FAILED = re.compile(r"Command failed -:(\d+)")
METRIC = 1000
RTO_MIN = "20ms"
"""The array's minimum TCP retransmission timeout. A lone answer that was lost with its port gets
no tail-loss probe (tcp_schedule_loss_probe, net/ipv4/tcp_output.c), so it waits for this timeout.
The default, 200 ms, is meant for the Internet, not for a subnet."""
STUCK_S = 2.0


def sysctls(config: Config) -> dict[str, str]:
    """Kernel settings (path: value) that several ports in one subnet need.

    Documentation/networking/ip-sysctl.rst: a port answers ARP for its own addresses only
    (arp_ignore 1) and asks with one of its own (arp_announce 2). No reverse path filter. Removing
    the first address of a subnet keeps the others (promote_secondaries). IPv6 has no duplicate
    address detection and keeps its addresses when the link is set down.
    """
    values = {
        "/proc/sys/net/ipv4/conf/all/rp_filter": "0",
        "/proc/sys/net/ipv4/ip_nonlocal_bind": "1",  # a target may start while its address is off
        "/proc/sys/net/ipv6/ip_nonlocal_bind": "1",
    }
    for interface in config.interfaces.values():
        four, six = (f"/proc/sys/net/{family}/conf/{interface}" for family in ("ipv4", "ipv6"))
        values |= {
            f"{four}/arp_ignore": "1",
            f"{four}/arp_announce": "2",
            f"{four}/arp_filter": "0",
            f"{four}/rp_filter": "0",
            f"{four}/promote_secondaries": "1",
            f"{six}/accept_dad": "0",
            f"{six}/dad_transmits": "0",
            f"{six}/accept_ra": "0",
            f"{six}/keep_addr_on_down": "1",
        }
    return values


def quick_rto() -> str:
    """A shell line that sets RTO_MIN also for packets sent while an address has no route.

    Run it before targets listen: connections inherit the value. Needs kernel 6.11 or later
    (tcp_rto_min_us, Documentation/networking/ip-sysctl.rst); else it does nothing.
    """
    path = "/proc/sys/net/ipv4/tcp_rto_min_us"
    return f"[ ! -e {path} ] || echo {RTO_MIN.removesuffix('ms')}000 > {path}"


def rule_lines(config: Config, family: int) -> list[str]:
    """The rules of all addresses of `family` (4 or 6), for `ip -4|-6 -force -batch -`.

    The kernel refuses a rule that exists, which does no harm.
    """
    return [
        f"rule add from {place.address} lookup {place.table} priority {place.table}"
        for place in config.places.values()
        if place.family == family
    ]


def lasting_lines(config: Config) -> list[str]:
    """Lines that keep moving addresses local while they are on no port, for a moment of each move.

    Linux refuses to send from an IPv4 address that is not local (ip_route_output_key_hash_rcu,
    net/ipv4/route.c); TCP then tries again like a window probe, after 200 ms at least
    (tcp_probe0_base, include/net/tcp.h). An IPv6 address asks for neighbours before answers can
    reach it (addrconf_dad_work adds its route, net/ipv6/addrconf.c), and asks again after a second.
    No port answers for an address that it does not have: see arp_ignore above. Not for heads, where
    another kernel gets the address, nor for addresses that are removed to end their connections.
    """
    moves = config.desired.mode == "takeover"
    return [
        f"route replace local {address.address} dev lo metric {METRIC}"
        for address in config.desired.addresses
        if moves or address.virtual
    ]


def setup_lines(config: Config, family: int = 4) -> list[str]:
    """Lines that put every address on its home port, for `ip -4|-6 -force -batch -`.

    For arrays before, or without, a controller. Call it once for each family: the rules of one ip
    batch all have one family. The ports must be up, and `sysctls` set. Data addresses come first,
    so that a virtual address is a secondary one and its removal promotes nothing.
    """
    lines = rule_lines(config, family)
    for at, interface in enumerate(config.interfaces.values()):
        for subnet in sorted({p.subnet for p in config.places.values() if p.family == family}):
            lines.append(f"route replace {subnet} dev {interface} metric {METRIC + at}")
    for address in sorted(config.desired.addresses, key=lambda a: a.virtual):
        place = config.places[address.address]
        if place.family == family:
            home = config.interfaces[address.home]
            lines += [add_line(place, home), route_line(place, home)]
    return lines


def add_rules6(lines: Sequence[str]) -> None:
    """Add the IPv6 rules with a separate ip: the long-running one takes IPv4 rules only."""
    if lines:
        text = "".join(f"{line}\n" for line in lines)
        argv = ["ip", "-6", "-force", "-batch", "-"]
        subprocess.run(argv, input=text, text=True, capture_output=True, check=False, timeout=5.0)


def remove_line(place: Place, interface: str, prefix: int | None = None) -> str:
    """Remove an address; `prefix` is the kernel's prefix length where it differs from ours."""
    length = place.prefix if prefix is None else prefix
    return f"addr del {place.address}/{length} dev {interface}"


def add_line(place: Place, interface: str) -> str:
    """Add an address.

    noprefixroute: the main routing table does not change. nodad: skip duplicate address detection,
    which would delay an IPv6 address by a second.
    """
    flags = "nodad noprefixroute" if place.family == 6 else "noprefixroute"
    return f"addr add {place.address}/{place.prefix} dev {interface} {flags}"


def route_line(place: Place, interface: str) -> str:
    """Route packets from an address through `interface`."""
    return f"route replace {place.subnet} dev {interface} table {place.table} rto_min {RTO_MIN}"


def flush_line(interface: str) -> str:
    """Drop the packets that wait at an interface for a neighbour that will not answer there.

    A port that loses carrier loses its neighbours. Packets sent before the address moves wait three
    seconds for a neighbour, and TCP does not resend them as long as they are queued
    (skb_still_in_host_queue, net/ipv4/tcp_output.c).
    """
    return f"neigh flush dev {interface}"


def action_lines(
    config: Config, actions: Sequence[Action], prefix: Callable[[str, str], int | None]
) -> tuple[list[str], dict[str, frozenset[str]]]:
    """The lines that execute `actions`, in their order, and the owners of each address afterwards.

    `prefix` gives the kernel's prefix length of an address at an owner. Routes come first, so that
    packets leave through the new port at once.
    """
    lines = [
        route_line(config.places[action.address], config.interfaces[action.port])
        for action in actions
        if isinstance(action, AddAddress)
    ]
    owners: dict[str, frozenset[str]] = {}
    for action in actions:
        if isinstance(action, RemoveAddress):
            interface = config.interfaces.get(action.port) or action.port.removeprefix(FOREIGN)
            length = prefix(action.address, action.port)
            lines.append(remove_line(config.places[action.address], interface, length))
            owners.setdefault(action.address, frozenset())
        elif isinstance(action, AddAddress):
            lines.append(add_line(config.places[action.address], config.interfaces[action.port]))
            owners[action.address] = frozenset([action.port])
    return lines, owners


@dataclass(frozen=True)
class Failure:
    """A line that ip refused, and its message."""

    line: str
    message: str


class Hands:
    """One long-running `ip -force -batch -`: takes lines and tells when they are done.

    `keep`: descriptors that it inherits. With the controller's lock among them, no other controller
    starts before all our lines are executed.
    """

    def __init__(self, keep: Sequence[int] = (), environ: Mapping[str, str] = os.environ) -> None:
        self._keep = keep
        self._lines_left = int(environ.get(DIE_AT, 0)) or None
        self.starts = 0
        self._start()

    def _start(self) -> None:
        # Bytes and no buffer: write() returns when ip has the line.
        self._ip = subprocess.Popen(
            ["ip", "-force", "-batch", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            bufsize=0,
            pass_fds=self._keep,
        )
        assert self._ip.stderr
        os.set_blocking(self._ip.stderr.fileno(), False)
        self.starts += 1
        self._sent: dict[int, str] = {}
        self._count = 0
        self._text = ""
        self._acted = 0.0
        self.busy = False

    def fileno(self) -> int:
        """The descriptor of its answers, for a selector."""
        assert self._ip.stderr
        return self._ip.stderr.fileno()

    def act(self, lines: Sequence[str]) -> None:
        """Give ip `lines`, in one write; `busy` until `answers` sees that they are done."""
        if not lines:
            return
        if self._lines_left is not None:
            self._maybe_die(lines)
        for line in [*lines, MARKER]:
            self._count += 1
            self._sent[self._count] = line
        self.busy = True
        self._acted = time.monotonic()
        self._write([*lines, MARKER])

    def _write(self, lines: Sequence[str]) -> None:
        assert self._ip.stdin
        try:
            self._ip.stdin.write("".join(f"{line}\n" for line in lines).encode())
        except BrokenPipeError:
            return  # ip is dead: `answers` sees the end of its output and starts another

    def _maybe_die(self, lines: Sequence[str]) -> None:
        assert self._lines_left is not None
        if len(lines) >= self._lines_left:
            self._write(lines[: self._lines_left])
            os.kill(os.getpid(), signal.SIGKILL)
        self._lines_left -= len(lines)

    def end_if_stuck(self) -> None:
        """Kill an ip that is busy for more than STUCK_S seconds; `answers` starts another."""
        if self.busy and time.monotonic() - self._acted > STUCK_S:
            self._ip.kill()

    def answers(self) -> list[Failure]:
        """Read what ip said; returns the refused lines.

        Starts a new ip if it ended. Ask the kernel then which lines were executed.
        """
        assert self._ip.stderr
        failures: list[Failure] = []
        while True:
            data = self._ip.stderr.read(1 << 16)
            if data is None:
                break
            if not data:
                self.close()
                self._start()
                failures.append(Failure("", "ip ended and was started again"))
                break
            self._text += data.decode(errors="replace")
        before = ""
        *whole, self._text = self._text.split("\n")
        for text in whole:
            found = FAILED.match(text)
            if not found:
                before = text
                continue
            line = self._sent.pop(int(found[1]), "")
            if line != MARKER:
                failures.append(Failure(line, before))
            elif int(found[1]) == self._count:
                self._sent.clear()
                self.busy = False
        return failures

    def close(self) -> None:
        """End ip, and wait for its exit."""
        for pipe in (self._ip.stdin, self._ip.stderr):
            if pipe:
                pipe.close()
        try:
            self._ip.wait(1.0)
        except subprocess.TimeoutExpired:
            self._ip.kill()
            self._ip.wait()
