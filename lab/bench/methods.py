"""The failover methods that `lab bench failover` compares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from ipaddress import IPv4Interface

from lab.array.policy import Policy
from lab.bench.bonding import ARP_INTERVAL_MS, active_port, bonded
from lab.commands import Runner, require
from lab.run.lab import Lab
from lab.topology.topology import PortSpec
from lab.waiting import wait_for

Running = Callable[[Lab], AbstractContextManager[None]]

_HOLD_S = 0.3
_FIXED = {"h1": "p1"}
_NOBODY = Policy(controller=False, redirect="fixed", fixed=_FIXED, hold_s=1.3)


def _owner(lab: Lab, address: str) -> str:
    """The port that has `address`; "" while it is on none or on two."""
    owners = lab.array.owners(address)
    return owners.pop() if len(owners) == 1 else ""


@dataclass(frozen=True)
class Method:
    """One failover method: its description, the array's policy, and what runs in the array.

    `port_of` returns the port that carries an address. `goes_home`: the address returns when its
    port is back. `program`, of the Debian package `package`, must be installed.
    """

    name: str
    what: str
    policy: Policy
    running: Running = nullcontext  # type: ignore[assignment]
    port_of: Callable[[Lab, str], str] = _owner
    goes_home: bool = True
    target: str = "tgt"
    program: str = "ip"
    package: str = "iproute2"

    def require(self) -> str:
        """The path of its program; raises Missing if it is not installed."""
        return require(self.program, self.package)


@dataclass(frozen=True)
class _Move:
    """The move that every method makes: the first port's data address to the second port."""

    old: PortSpec
    new: PortSpec
    address: IPv4Interface
    table: int

    @classmethod
    def of(cls, lab: Lab) -> _Move:
        old, new = lab.array.spec.ports[:2]
        address = old.addresses[0]
        assert isinstance(address, IPv4Interface)
        return cls(old, new, address, lab.array.table_of(str(address.ip)))


_MOVE = """\
owner=%(old)s
move() {
  ip addr del %(address)s dev "$owner"
  ip addr add %(address)s dev "$1" noprefixroute
  ip route replace %(subnet)s dev "$1" table %(table)d
  owner=$1
  arping -q -c 2 -U -I "$1" %(ip)s &
}
"""
_POLLING = """\
# The usual script: look ten times a second, move the address, announce it.
echo watching
while sleep 0.1; do
  if ip link show dev %(old)s | grep -q NO-CARRIER; then wanted=%(new)s; else wanted=%(old)s; fi
  [ "$owner" = "$wanted" ] || move "$wanted"
done
"""
_MONITORING = """\
# The same, but the kernel reports the link.
echo watching
ip monitor link | while read -r line; do
  case $line in
    *" %(old)s"*NO-CARRIER*) [ "$owner" = %(new)s ] || move %(new)s ;;
    *" %(old)s"*LOWER_UP*) [ "$owner" = %(old)s ] || move %(old)s ;;
  esac
done
"""


def _plain_route(lab: Lab, move: _Move) -> None:
    """Use a route without the short retransmission timeout of our controller."""
    route = f"{move.address.network} dev {move.old.interface} table {move.table}"
    lab.array.runner.run(["ip", "route", "replace", *route.split()])


def _script(text: str, *, listening: bool) -> Running:
    @contextmanager
    def run(lab: Lab) -> Iterator[None]:
        move = _Move.of(lab)
        filled = (_MOVE + text) % {
            "old": move.old.interface, "new": move.new.interface, "address": move.address,
            "ip": move.address.ip, "subnet": move.address.network, "table": move.table,
        }  # fmt: skip
        _plain_route(lab, move)
        lines: list[str] = []
        process = lab.array.runner.start(
            ["sh", "-c", filled], log=lab.folder.logs / "script.log", on_line=lines.append
        )
        try:
            wait_for("the script", lambda: "watching" in lines, seconds=5)
            if listening:
                wait_for("ip monitor", lambda: _listens(lab.array.runner), seconds=5)
            yield
        finally:
            process.kill()

    return run


def _listens(runner: Runner) -> bool:
    """Whether a program there listens to link events (groups bit 0 of NETLINK_ROUTE)."""
    rows = runner.run(["cat", "/proc/net/netlink"]).output.splitlines()[1:]
    return any(row.split()[1] == "0" and int(row.split()[3], 16) & 1 for row in rows)


_INSTANCE = """\
global_defs {
  router_id %(interface)s
  vrrp_version %(version)d
}
vrrp_instance port {
  state %(state)s
  interface %(interface)s
  virtual_router_id 11
  priority %(priority)d
  advert_int %(interval)s
  mcast_src_ip %(source)s
  virtual_ipaddress {
    %(address)s dev %(interface)s noprefixroute
  }
  virtual_routes {
    %(subnet)s dev %(interface)s table %(table)d
  }
}
"""


def _keepalived(version: int, interval: str) -> Running:
    @contextmanager
    def run(lab: Lab) -> Iterator[None]:
        """Run a keepalived for each port, as for two heads; both in the array's namespace."""
        move = _Move.of(lab)
        _plain_route(lab, move)
        runner, processes = lab.array.runner, []
        # Both ends of VRRP are in this namespace; by default the kernel drops that as forged.
        for port in (move.old, move.new):
            runner.run(["sysctl", "-qw", f"net.ipv4.conf.{port.interface}.accept_local=1"])
        runner.run(["ip", "addr", "del", str(move.address), "dev", move.old.interface])
        sources = (lab.array.virtual, lab.array.address_of(move.new.name))
        try:
            for port, source, state, priority in (
                (move.old, sources[0], "MASTER", 150), (move.new, sources[1], "BACKUP", 100),
            ):  # fmt: skip
                config = lab.folder.work / f"keepalived-{port.name}.conf"
                config.write_text(_INSTANCE % {
                    "interface": port.interface, "version": version, "state": state,
                    "priority": priority, "interval": interval, "source": source,
                    "address": move.address, "subnet": move.address.network, "table": move.table,
                })  # fmt: skip
                pid = lab.folder.work / f"keepalived-{port.name}"
                argv = [
                    "keepalived", "--dont-fork", "--log-console", "--log-detail", "--vrrp",
                    f"--use-file={config}", f"--pid={pid}.pid", f"--vrrp_pid={pid}.vrrp",
                ]  # fmt: skip
                log = lab.folder.logs / f"keepalived-{port.name}.log"
                processes.append(runner.start(argv, log=log))
            wait_for(
                "keepalived to take the address",
                lambda: lab.array.owners(str(move.address.ip)),
                until=lambda owners: owners == {move.old.name},
                seconds=20,
            )
            yield
        finally:
            for process in processes:
                process.kill()

    return run


METHODS = {
    method.name: method
    for method in (
        Method(
            "controller", "our controller: netlink event, running `ip -batch -`, raw announcements",
            Policy(redirect="fixed", fixed=_FIXED, hold_s=_HOLD_S),
        ),
        Method(
            "redirect-only", "the address stays dead; the host logs in again and is redirected",
            Policy(mode="redirect-only", hold_s=_HOLD_S), goes_home=False,
        ),
        Method(
            "shell-script", "a script that polls every 0.1 s: `ip link`, `ip addr`, `arping`",
            _NOBODY, _script(_POLLING, listening=False), program="arping",
            package="iputils-arping",
        ),
        Method(
            "shell-monitor", "a script that listens: `ip monitor`, `ip addr`, `arping`",
            _NOBODY, _script(_MONITORING, listening=True), program="arping",
            package="iputils-arping",
        ),
        Method(
            "keepalived", "keepalived with its default timers (VRRP 2, one second)",
            _NOBODY, _keepalived(2, "1"), program="keepalived", package="keepalived",
        ),
        Method(
            "keepalived-fast", "keepalived with its fastest timers (VRRP 3, 10 ms)",
            _NOBODY, _keepalived(3, "0.01"), program="keepalived", package="keepalived",
        ),
        Method(
            "bonding", f"bonding active-backup, ARP monitor {ARP_INTERVAL_MS} ms (LIO)",
            _NOBODY, bonded, active_port, target="lio",
        ),
    )
}  # fmt: skip
"""All methods by name, in the order of measurement and display."""
