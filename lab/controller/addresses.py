"""The hands: one `ip` process that already runs moves the addresses.

Several ports are in one subnet, so a packet must leave through the port that has its source
address. Every address has its own routing table and a rule `from ADDRESS lookup TABLE`. A move is
one write: point the table to the new port, delete the address from the old port, add it to the new.
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
"""Environment variable for tests: SIGKILL this process after so many lines written."""
MARKER = "done"
"""A line that ip refuses at once on standard error; this tells how far ip has come."""
FAILED = re.compile(r"Command failed -:(\d+)")
METRIC = 1000
RTO_MIN = "20ms"
"""The array's least retransmission timeout; the default, 200 ms, is meant for the Internet.

An answer in flight when the port dies is alone, so TCP sends no tail-loss probe for it before the
timeout (net/ipv4/tcp_output.c, tcp_schedule_loss_probe)."""
STUCK_S = 2.0


def sysctls(config: Config) -> dict[str, str]:
    """Kernel settings (path: value) that several ports in one subnet need.

    See Documentation/networking/ip-sysctl.rst. A port answers ARP only for its own addresses
    (arp_ignore 1) and uses one of them in its own requests (arp_announce 2). There is no reverse
    path filter. The first address of a subnet may leave without the others (promote_secondaries).
    IPv6 has no duplicate address detection, and its addresses stay when the link is set down.
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
    """A line of shell that sets RTO_MIN for all connections, on kernels from 6.11.

    The route's metric says RTO_MIN too, but an address has no route while it moves. Run it before
    targets listen, because connections inherit it (tcp_rto_min_us,
    Documentation/networking/ip-sysctl.rst).
    """
    path = "/proc/sys/net/ipv4/tcp_rto_min_us"
    return f"[ ! -e {path} ] || echo {RTO_MIN.removesuffix('ms')}000 > {path}"


def rule_lines(config: Config, family: int) -> list[str]:
    """The rules of all addresses of `family` (4 or 6), for `ip -4|-6 -force -batch -`.

    ip refuses a rule that exists; that does no harm.
    """
    return [
        f"rule add from {place.address} lookup {place.table} priority {place.table}"
        for place in config.places.values()
        if place.family == family
    ]


def lasting_lines(config: Config) -> list[str]:
    """Lines that keep an address local to the kernel while it moves and is on no port.

    The kernel refuses packets from an IPv4 address that is not local
    (ip_route_output_key_hash_rcu, net/ipv4/route.c). TCP then tries again as for a closed window,
    after 200 ms at least (tcp_probe0_base, include/net/tcp.h). An IPv6 address asks for neighbours
    before answers can reach it (its route comes with addrconf_dad_work, net/ipv6/addrconf.c), and
    asks again after a second. No port answers ARP for an address that it does not have: see
    arp_ignore above. Heads get no such lines, because there an address moves to another kernel. Nor
    do addresses that are taken off for good, because their connections must end.
    """
    moves = config.desired.mode == "takeover"
    return [
        f"route replace local {address.address} dev lo metric {METRIC}"
        for address in config.desired.addresses
        if moves or address.virtual
    ]


def setup_lines(config: Config, family: int = 4) -> list[str]:
    """Lines that put every address on its home port, for `ip -4|-6 -force -batch -`.

    For an array without a controller, or before it starts. Call it once per family, because rules
    of an ip batch have one family. The ports must be up, and `sysctls` set. Data addresses come
    first: a virtual address is then secondary, and nothing is promoted when it leaves.
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
    """Execute IPv6 rules in a separate ip, because the long-lived one cannot take them."""
    if lines:
        text = "".join(f"{line}\n" for line in lines)
        argv = ["ip", "-6", "-force", "-batch", "-"]
        subprocess.run(argv, input=text, text=True, capture_output=True, check=False, timeout=5.0)


def remove_line(place: Place, interface: str, prefix: int | None = None) -> str:
    """The line that takes an address off; `prefix` is the kernel's, if it differs from ours."""
    length = place.prefix if prefix is None else prefix
    return f"addr del {place.address}/{length} dev {interface}"


def add_line(place: Place, interface: str) -> str:
    """The line that puts an address on.

    noprefixroute: no route of the main table changes. nodad: an IPv6 address is usable at once,
    without a second of duplicate address detection.
    """
    flags = "nodad noprefixroute" if place.family == 6 else "noprefixroute"
    return f"addr add {place.address}/{place.prefix} dev {interface} {flags}"


def route_line(place: Place, interface: str) -> str:
    """The line that sends packets from an address through `interface`."""
    return f"route replace {place.subnet} dev {interface} table {place.table} rto_min {RTO_MIN}"


def flush_line(interface: str) -> str:
    """The line that drops packets which wait at a dead interface for a neighbour.

    A port loses its neighbour entries with its carrier. A packet sent before the address has moved
    waits three seconds for a new entry. TCP does not resend it so long, because it is still in the
    queue (skb_still_in_host_queue, net/ipv4/tcp_output.c).
    """
    return f"neigh flush dev {interface}"


def action_lines(
    config: Config, actions: Sequence[Action], prefix: Callable[[str, str], int | None]
) -> tuple[list[str], dict[str, frozenset[str]]]:
    """The lines that execute `actions` in order, and the owners of each address afterwards.

    `prefix` returns the kernel's prefix length for an address at an owner. Routes come first, so
    that packets from an address leave through its new port at once.
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
    """A line that ip refused, and ip's message."""

    line: str
    message: str


class Hands:
    """One long-lived `ip -force -batch -`, which takes lines and tells when they are executed.

    It inherits the descriptors `keep`: the controller's lock. So no other controller starts while
    ip still executes our lines.
    """

    def __init__(self, keep: Sequence[int] = (), environ: Mapping[str, str] = os.environ) -> None:
        self._keep = keep
        self._lines_left = int(environ.get(DIE_AT, 0)) or None
        self.starts = 0
        self._start()

    def _start(self) -> None:
        # Bytes and no buffer, so that ip has a line when write() returns.
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
        """Give ip `lines` in one write; `busy` stays True until `answers` sees them done."""
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
        """Kill ip if it is busy for more than STUCK_S seconds; `answers` starts another."""
        if self.busy and time.monotonic() - self._acted > STUCK_S:
            self._ip.kill()

    def answers(self) -> list[Failure]:
        """Read ip's answers and return the refused lines.

        If ip has ended, start a new one. Then nothing is in flight, and the kernel says what was
        executed.
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
        """End it, and wait until it is gone."""
        for pipe in (self._ip.stdin, self._ip.stderr):
            if pipe:
                pipe.close()
        try:
            self._ip.wait(1.0)
        except subprocess.TimeoutExpired:
            self._ip.kill()
            self._ip.wait()
