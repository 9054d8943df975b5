"""Network namespaces for the controller's tests: an array with ports, a switch with a host."""

from __future__ import annotations

import json
import os
import queue
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lab.controller import addresses, config
from lab.waiting import wait_for

REPO = Path(__file__).parents[3]
HOST = "10.0.0.101"
KNOCK = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 9), timeout=1.0)
except ConnectionRefusedError:
    sys.exit(0)
except OSError:
    sys.exit(1)
"""


def _user() -> list[str]:
    return [] if os.geteuid() == 0 else ["-r"]


def _why_not() -> str | None:
    """Why namespaces cannot be had here, or None if they can."""
    tried = subprocess.run(["unshare", *_user(), "-n", "true"], capture_output=True, text=True)
    return tried.stderr.strip() or "unshare failed" if tried.returncode else None


_WHY_NOT = _why_not()
needs_namespaces = pytest.mark.skipif(
    bool(_WHY_NOT), reason=f"needs root or unprivileged user namespaces: {_WHY_NOT}"
)


class Namespace:
    """A network namespace that lives as long as its process."""

    def __init__(self, inside: Namespace | None = None) -> None:
        enter = inside.argv() if inside else []
        user = [] if inside else _user()
        argv = [*enter, "unshare", *user, "-n", "sh", "-c", "echo $$; exec cat"]
        self.holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.holder.stdout
        self.pid = int(self.holder.stdout.readline())

    def argv(self) -> list[str]:
        user = ["-U", "--preserve-credentials"] if os.geteuid() else []
        return ["nsenter", "-t", str(self.pid), *user, "-n", "--"]

    def run(self, command: str, check: bool = True) -> str:
        done = subprocess.run(
            [*self.argv(), "sh", "-c", command], capture_output=True, text=True, timeout=20
        )
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def close(self) -> None:
        self.holder.stdin.close()
        self.holder.wait(5)
        self.holder.stdout.close()


class Controller:
    """A running controller; `events` are those that it has told so far."""

    def __init__(self, net: Net, **env: str) -> None:
        self.events: list[dict] = []
        self._new: queue.Queue[dict | None] = queue.Queue()
        self.process = subprocess.Popen(
            [*net.array.argv(), sys.executable, "-m", "lab.controller", str(net.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPO,
            env={**os.environ, **env},
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self._new.put(json.loads(line))
        self._new.put(None)

    def until(self, what: str, seconds: float = 5.0, **details) -> dict:
        """The next event of that kind; it fails if none comes, saying what came instead."""
        deadline, seen = time.monotonic() + seconds, []
        while True:
            try:
                event = self._new.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {what} {details} within {seconds} s: {seen}") from None
            if event is None:
                self._new.put(None)
                raise AssertionError(f"it ended before {what}: {seen}")
            self.events.append(event)
            seen.append(event)
            if event["what"] == what and details.items() <= event.items():
                return event

    def order(self, **order) -> None:
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def ended(self) -> bool:
        return self.process.poll() is not None

    def end(self) -> int:
        """End of input, and the exit status."""
        self.process.stdin.close()
        status = self.process.wait(5)
        self.process.stderr.close()
        return status


class Net:
    """Array `a1` with `ports` on a bridge that has the address of a host."""

    def __init__(self, folder: Path, ports: int = 3, version: int = 4, **settings) -> None:
        self.switch = Namespace()
        self.array = Namespace(inside=self.switch)
        self.names = [f"p{i}" for i in range(1, ports + 1)]
        net, bits = ("10.0.0.", 24) if version == 4 else ("fd00::", 64)
        self.vip = f"{net}1"
        self.host = f"{net}101"
        self.data = {name: f"{net}{10 + i}" for i, name in enumerate(self.names, 1)}
        self.path = folder / "config.json"
        content = {
            "array": "a1",
            "ports": [{"name": n, "interface": f"a1-{n}"} for n in self.names],
            "addresses": [{"address": f"{self.vip}/{bits}", "home": "p1", "virtual": True}]
            + [{"address": f"{a}/{bits}", "home": n} for n, a in self.data.items()],
            "initiators": [self.host],
            "hold_s": 0.5,
            "probe": None,
            "steering": str(folder / "steering"),
            **settings,
        }
        self.path.write_text(json.dumps(content))
        self.config = config.parse(content)
        self.steering = folder / "steering"
        self.switch.run(
            # A port that is taken off the bridge must not reach the host by another way.
            "echo 1 > /proc/sys/net/ipv4/conf/all/arp_ignore;"
            "ip link set lo up; ip link add s1 type bridge; ip link set s1 up;"
            f"ip addr add {self.host}/{bits} dev s1 {'nodad' if version == 6 else ''}"
        )
        for name in self.names:
            self.switch.run(
                f"ip link add s1-{name} type veth peer name a1-{name} netns {self.array.pid};"
                f"ip link set s1-{name} master s1 up"
            )
        self.reset()

    def reset(self) -> None:
        """Every address at home, every link up."""
        lines = [f"ip link set s1-{name} up master s1" for name in self.names]
        self.switch.run("\n".join(lines))
        writes = [f"echo {v} > {k}" for k, v in addresses.sysctls(self.config).items()]
        ups = [f"ip addr flush dev a1-{n} scope global; ip link set a1-{n} up" for n in self.names]
        self.array.run("\n".join(["ip link set lo up", *writes, *ups]))
        for family in (4, 6):
            lines = addresses.setup_lines(self.config, family)
            text = shlex.quote("\n".join(lines) + "\n")
            self.array.run(f"printf %s {text} | ip -{family} -force -batch -", check=False)
        wait_for("links", self.live, until=lambda seen: seen == set(self.names), seconds=5)

    def live(self) -> set[str]:
        links = json.loads(self.array.run("ip -j link"))
        return {k["ifname"][3:] for k in links if "LOWER_UP" in k["flags"]} - {""}

    def owners(self, address: str) -> list[str]:
        """The interfaces that have `address`, as ip tells."""
        return [
            link["ifname"]
            for link in json.loads(self.array.run("ip -j addr"))
            for found in link.get("addr_info", [])
            if found.get("local") == address
        ]

    def where(self) -> dict[str, list[str]]:
        return {a: self.owners(a) for a in [self.vip, *self.data.values()]}

    def reachable(self, address: str) -> bool:
        """Whether the host gets an answer from `address`."""
        argv = [*self.switch.argv(), sys.executable, "-c", KNOCK, address]
        return subprocess.run(argv, timeout=20).returncode == 0

    def answer(self) -> str:
        return (self.steering / self.host).read_text()

    def close(self) -> None:
        self.array.close()
        self.switch.close()


class Monitor:
    """Every address change of the array, as `ip monitor` saw it."""

    def __init__(self, net: Net) -> None:
        self.owners = {a: set(o) for a, o in net.where().items()}
        self._monitor = subprocess.Popen(
            [*net.array.argv(), "stdbuf", "-oL", "ip", "-o", "monitor", "address"],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._net = net
        self._flush("192.0.2.1")

    def _flush(self, mark: str) -> list[str]:
        """The lines up to a change of our own."""
        # Until it listens it hears nothing: so say it again and again.
        say = f"while ! [ -e {self._net.path}.heard ]; do ip addr add {mark}/32 dev lo;"
        say += f"ip addr del {mark}/32 dev lo; done 2>/dev/null"
        heard = Path(f"{self._net.path}.heard")
        heard.unlink(missing_ok=True)
        shouting = subprocess.Popen([*self._net.array.argv(), "sh", "-c", say])
        lines = []
        for line in self._monitor.stdout:
            if f" {mark}/" in line:
                break
            lines.append(line)
        heard.touch()
        shouting.wait(5)
        return lines

    def end(self) -> int:
        """The most owners that any address had at any time."""
        most = 1
        for line in self._flush("192.0.2.2"):
            words = line.removeprefix("Deleted ").split()
            name, address = words[1], words[3].split("/")[0]
            if address not in self.owners:
                continue
            if line.startswith("Deleted"):
                self.owners[address].discard(name)
            else:
                self.owners[address].add(name)
            most = max(most, len(self.owners[address]))
        self._monitor.kill()
        self._monitor.wait()
        self._monitor.stdout.close()
        return most


def at_home(net: Net) -> dict[str, list[str]]:
    """What net.where() is while no port has died."""
    return {net.vip: ["a1-p1"]} | {a: [f"a1-{name}"] for name, a in net.data.items()}
