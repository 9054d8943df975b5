"""The hands: addresses are moved by one `ip` process that is running already.

Several ports are in one subnet, so what leaves from an address must leave through the port that
has it: every address has a routing table of its own and a rule `from ADDRESS lookup TABLE`. A move
points its table to another port, takes the address off the one and puts it on the other, in one
write.
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
"""Environment variable for tests: SIGKILL this process when it has written that many lines."""
MARKER = "done"
"""No object of ip's: it says so on standard error at once, which tells how far it has come."""
FAILED = re.compile(r"Command failed -:(\d+)")
METRIC = 1000
RTO_MIN = "20ms"
"""The array's least retransmission timeout. An answer that was on its way when the port died is
alone, so no tail-loss probe is sent for it before the timeout (net/ipv4/tcp_output.c,
tcp_schedule_loss_probe), which by default is 200 ms: meant for the Internet, not for a subnet."""
STUCK_S = 2.0


def sysctls(config: Config) -> dict[str, str]:
    """Kernel settings (path: value) that several ports in one subnet need.

    Documentation/networking/ip-sysctl.rst: a port answers ARP for its own addresses only
    (arp_ignore 1) and names one of its own when it asks (arp_announce 2); no reverse path filter;
    the first address of a subnet may go without taking the others along (promote_secondaries);
    IPv6 without duplicate address detection, and its addresses outlive a link that is set down.
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
    """A line of shell: RTO_MIN also for what is sent while an address is on its way, and has no
    route whose metric would say so. For kernels from 6.11 (tcp_rto_min_us,
    Documentation/networking/ip-sysctl.rst); before targets listen, for connections inherit it.
    """
    path = "/proc/sys/net/ipv4/tcp_rto_min_us"
    return f"[ ! -e {path} ] || echo {RTO_MIN.removesuffix('ms')}000 > {path}"


def rule_lines(config: Config, family: int) -> list[str]:
    """The rules of all addresses of `family` (4 or 6), for `ip -4|-6 -force -batch -`.

    A rule that is there already is refused, which does no harm.
    """
    return [
        f"rule add from {place.address} lookup {place.table} priority {place.table}"
        for place in config.places.values()
        if place.family == family
    ]


def lasting_lines(config: Config) -> list[str]:
    """Addresses that move between ports of one kernel stay its own while they are on none.

    For a moment they are, when they move. What leaves from an IPv4 address that is not local is
    refused (ip_route_output_key_hash_rcu, net/ipv4/route.c), and TCP tries again when it would
    probe a closed window, after 200 ms at least (tcp_probe0_base, include/net/tcp.h). An IPv6
    address asks for neighbours before answers reach it (its route comes with addrconf_dad_work,
    net/ipv6/addrconf.c), and asks again after a second. None is to be heard of at a port that does
    not have it: see arp_ignore above. Not for heads: there an address that has left is another
    kernel's; nor for those that are taken off and do not move, which is to end what goes on there.
    """
    moves = config.desired.mode == "takeover"
    return [
        f"route replace local {address.address} dev lo metric {METRIC}"
        for address in config.desired.addresses
        if moves or address.virtual
    ]


def setup_lines(config: Config, family: int = 4) -> list[str]:
    """Lines that put every address on its home port, for `ip -4|-6 -force -batch -`.

    For arrays before, or without, a controller. Call it once for each family: a batch of ip's has
    one for its rules. The ports must be up, and `sysctls` set. Data addresses come before virtual
    ones, so that a virtual address that leaves is a secondary one and nothing is promoted.
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
    """The IPv6 rules, by an ip of their own: the long-lived one cannot take them."""
    if lines:
        text = "".join(f"{line}\n" for line in lines)
        argv = ["ip", "-6", "-force", "-batch", "-"]
        subprocess.run(argv, input=text, text=True, capture_output=True, check=False, timeout=5.0)


def remove_line(place: Place, interface: str, prefix: int | None = None) -> str:
    """Take an address off; `prefix` as the kernel has it, where that is not ours."""
    length = place.prefix if prefix is None else prefix
    return f"addr del {place.address}/{length} dev {interface}"


def add_line(place: Place, interface: str) -> str:
    """Put an address on.

    noprefixroute: no route of the main table changes with it. nodad: an IPv6 address that waits
    a second for nobody to object is not taken over.
    """
    flags = "nodad noprefixroute" if place.family == 6 else "noprefixroute"
    return f"addr add {place.address}/{place.prefix} dev {interface} {flags}"


def route_line(place: Place, interface: str) -> str:
    """Send what comes from an address through `interface`."""
    return f"route replace {place.subnet} dev {interface} table {place.table} rto_min {RTO_MIN}"


def flush_line(interface: str) -> str:
    """Give up what waits at an interface for a neighbour that will not answer there.

    With its carrier a port loses its neighbours; what is sent before the address has moved waits
    for a new answer of one, three seconds. So long TCP does not send it again, for it thinks it
    still in the queue (skb_still_in_host_queue, net/ipv4/tcp_output.c).
    """
    return f"neigh flush dev {interface}"


def action_lines(
    config: Config, actions: Sequence[Action], prefix: Callable[[str, str], int | None]
) -> tuple[list[str], dict[str, frozenset[str]]]:
    """The lines that execute `actions`, in their order, and who has each address afterwards.

    `prefix` tells the prefix length that the kernel has for an address at an owner. First the
    routes: what leaves from an address from now on leaves through its new port.
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
    """A line that ip refused, and what it said."""

    line: str
    message: str


class Hands:
    """One long-lived `ip -force -batch -`: takes lines, says when it has executed them.

    `keep` are descriptors that it inherits: the controller's lock, so that nobody else becomes
    controller while lines of ours are still to be executed.
    """

    def __init__(self, keep: Sequence[int] = (), environ: Mapping[str, str] = os.environ) -> None:
        self._keep = keep
        self._lines_left = int(environ.get(DIE_AT, 0)) or None
        self.starts = 0
        self._start()

    def _start(self) -> None:
        # Bytes and no buffer: a line is with ip when write() returns.
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
        """Where its answers come from, for a selector."""
        assert self._ip.stderr
        return self._ip.stderr.fileno()

    def act(self, lines: Sequence[str]) -> None:
        """Give it `lines`, in one write; `busy` until `answers` has seen that they are done."""
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
            return  # it is dead: `answers` finds the end of its output and starts another

    def _maybe_die(self, lines: Sequence[str]) -> None:
        assert self._lines_left is not None
        if len(lines) >= self._lines_left:
            self._write(lines[: self._lines_left])
            os.kill(os.getpid(), signal.SIGKILL)
        self._lines_left -= len(lines)

    def end_if_stuck(self) -> None:
        """Kill an ip that has not been done for STUCK_S seconds; `answers` starts another."""
        if self.busy and time.monotonic() - self._acted > STUCK_S:
            self._ip.kill()

    def answers(self) -> list[Failure]:
        """Take in what it has said. Starts a new ip where it has ended: then nothing is in flight
        any more, and what was executed is for the kernel to say."""
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
