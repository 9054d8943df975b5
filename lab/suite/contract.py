"""What every target engine must do, seen by an initiator: for our engines and for those of others.

A package that brings an engine has one class for it in its tests, and pytest does the rest:

    from lab.suite.contract import EngineContract

    class TestMine(EngineContract):
        engine_name = "mine"

Needs what `make test` installs, and to be root, or in a sandbox, or it is skipped with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from lab.array.site import Site
from lab.errors import BadInput, LabError
from lab.suite.net import (
    HOST6,
    HOSTS,
    PORT6,
    PORTS,
    Net,
    guest_network,
    initiator_name,
    network,
)
from lab.suite.wire import Initiator
from targets import engines
from targets.base import (
    ChapAccount,
    KillableDaemon,
    LogicalUnit,
    OwnKernel,
    RedirectsNatively,
    TargetEngine,
    TargetSpec,
)

IQN = "iqn.2024-01.lab.a1:disk"
HOST = initiator_name(HOSTS[0])
MIB = 1 << 20
DISK, IDENTITY, SERIAL = 1, 0x83, 0x80
AUTHENTICATION_FAILURE, FORBIDDEN, NOT_FOUND = 0x0201, 0x0202, 0x0203
QEMU = ("qemu-io", "-f", "raw", "-t", "none", "-c")

Connect = Callable[..., Initiator]


def unit(number: int, folder: Path) -> LogicalUnit:
    """A disk of 16 MiB whose identity is made of its number."""
    path = folder / f"disk{number}"
    return LogicalUnit(number, path, 16 * MIB, f"a100000{number}", f"SN000{number}")


def listening(net: Net) -> set[str]:
    """The portals that the array listens at."""
    lines = net.array.run(["ss", "-tlnH"]).output.splitlines()
    return {line.split()[3] for line in lines} - {"169.254.0.2:22"}  # how commands reach a guest


def serve(engine: TargetEngine, disk: TargetSpec, *portals: str) -> None:
    """Make a target and expose it."""
    engine.create(disk)
    for portal in portals:
        engine.expose(portal)


def refuses(connect: Callable[[], object]) -> bool:
    """Whether nobody listens where `connect` goes."""
    try:
        connect()
    except ConnectionRefusedError:
        return True
    return False


class OnEngine:
    """Fixtures for tests of the engine `engine_name`: it runs, with a disk, an array and hosts."""

    engine_name: ClassVar[str]

    def make(self, net: Net, folder: Path, store: str = "") -> TargetEngine:
        """An engine of this kind, not started, with its files in `folder`."""
        place = net.guest or Site(net.array, folder / "work")
        return engines.find(self.engine_name).make(place, folder / "logs", store)

    @pytest.fixture(scope="class")
    def net(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
        """Where the array and the hosts are; the array in a guest if the engine needs a kernel."""
        if engines.find(self.engine_name).own_kernel:
            work = tmp_path_factory.mktemp("guest")
            with guest_network(work, tmp_path_factory.getbasetemp()) as made:
                yield made
        else:
            with network() as made:
                yield made

    @pytest.fixture
    def engine(self, net: Net, tmp_path: Path) -> Iterator[TargetEngine]:
        """An engine that has been started, and is stopped after the test."""
        made = self.make(net, tmp_path)
        made.start()
        try:
            yield made
        finally:
            made.stop()

    @pytest.fixture
    def disk(self, tmp_path: Path) -> TargetSpec:
        """A target with two disks, not created."""
        return TargetSpec(IQN, (unit(1, tmp_path), unit(2, tmp_path)))

    @pytest.fixture
    def host(self, net: Net) -> Iterator[Connect]:
        """Connects to a portal, from an address, as an initiator of a name."""
        opened: list[Initiator] = []

        def connect(
            portal: str, source: str = HOSTS[0], name: str = "", isid: int = 1
        ) -> Initiator:
            name = name or initiator_name(source)
            opened.append(Initiator(net.hosts_pid, source, name, b"\x80\0\0\0\0" + bytes([isid])))
            return opened[-1].connect(portal)

        yield connect
        for initiator in opened:
            initiator.close()


class EngineContract(OnEngine):
    """The contract; what an engine's kind says that it can do is held against the engine."""

    def test_it_is_what_its_kind_says(self, engine: TargetEngine) -> None:
        kind = engines.find(self.engine_name)
        assert isinstance(engine, OwnKernel) == kind.own_kernel
        if kind.front:
            assert isinstance(engine, RedirectsNatively)
        assert engine.version()

    def test_listens_where_it_is_exposed_and_nowhere_else(
        self, net: Net, engine: TargetEngine, disk: TargetSpec
    ) -> None:
        assert listening(net) <= {engine.local_portal}
        assert engine.local_portal.startswith("127.")
        serve(engine, disk, PORTS[0], f"[{PORT6}]:3260")
        assert listening(net) == {engine.local_portal, f"{PORTS[0]}:3260", f"[{PORT6}]:3260"}

    def test_a_disk_is_the_same_at_every_port(
        self, engine: TargetEngine, disk: TargetSpec, host: Connect
    ) -> None:
        serve(engine, disk, *PORTS[:2])
        seen = []
        for port in PORTS[:2]:
            initiator = host(port)
            assert initiator.login(IQN).status == 0
            pages = [(number, page) for number in (1, 2) for page in (IDENTITY, SERIAL)]
            seen.append({one: initiator.inquiry(*one) for one in pages})
            initiator.close()
        assert seen[0] == seen[1]
        assert b"SN0001" in seen[0][1, SERIAL]
        # Also as the NAA designator, which is what Linux makes the name of a disk of.
        assert "a1000001" in seen[0][1, IDENTITY].hex()
        assert len(set(seen[0].values())) == 4

    def test_data_written_at_one_port_is_read_at_another(
        self, net: Net, engine: TargetEngine, disk: TargetSpec
    ) -> None:
        serve(engine, disk, *PORTS[:2])
        net.hosts.run([*QEMU, "write -P 0x5a 1M 64k", f"iscsi://{PORTS[0]}/{IQN}/1"])
        read = [*QEMU, "read -P 0x5a 1M 64k"]
        net.hosts.run([*read, f"iscsi://{PORTS[1]}/{IQN}/1"])
        other = net.hosts.run([*read, f"iscsi://{PORTS[1]}/{IQN}/2"], check=False)
        assert "Pattern verification failed" in other.output

    def test_discovery_names_the_target(
        self, engine: TargetEngine, disk: TargetSpec, host: Connect
    ) -> None:
        serve(engine, disk, PORTS[0])
        initiator = host(PORTS[0])
        assert initiator.login(None).status == 0
        assert {target for target, _ in initiator.discover()} == {IQN}

    def test_parameters_are_offered_at_login(
        self, engine: TargetEngine, disk: TargetSpec, host: Connect
    ) -> None:
        serve(engine, disk, PORTS[0])
        engine.set_parameter(IQN, "DefaultTime2Wait", "7")
        # The host offers 2, the greater counts: RFC 7143 section 13.15.
        assert host(PORTS[0]).login(IQN).keys["DefaultTime2Wait"] == "7"
        engine.set_parameter(IQN, "DefaultTime2Wait", "0")
        assert host(PORTS[0]).login(IQN).keys["DefaultTime2Wait"] == "2"
        with pytest.raises(BadInput, match="NoSuchThing=1"):
            engine.set_parameter(IQN, "NoSuchThing", "1")

    @pytest.mark.parametrize(
        ("user", "secret", "status"),
        [
            ("alice", "correct-horse", 0),
            ("alice", "wrong-horse-1", AUTHENTICATION_FAILURE),
            ("bob", "correct-horse", AUTHENTICATION_FAILURE),
            ("", "", AUTHENTICATION_FAILURE),
        ],
    )
    def test_chap(
        self,
        engine: TargetEngine,
        disk: TargetSpec,
        host: Connect,
        user: str,
        secret: str,
        status: int,
    ) -> None:
        account = ChapAccount("alice", "correct-horse")
        serve(engine, replace(disk, accounts=(account,)), PORTS[0])
        try:
            assert host(PORTS[0]).login(IQN, user, secret).status == status
        except EOFError:
            # LIO has no answer for a host that offers no method but None: it hangs up.
            assert not user

    def test_a_host_with_a_secret_that_nobody_asks_for(
        self, engine: TargetEngine, disk: TargetSpec, host: Connect
    ) -> None:
        serve(engine, disk, PORTS[0])
        names = {"InitiatorName": HOST, "TargetName": IQN, "SessionType": "Normal"}
        flags, login = host(PORTS[0]).login_step(0x81, {**names, "AuthMethod": "CHAP,None"})
        assert (flags, login.status, login.keys["AuthMethod"]) == (0x81, 0, "None")

    def test_only_the_hosts_that_are_named_may_log_in(
        self, engine: TargetEngine, disk: TargetSpec, host: Connect
    ) -> None:
        serve(engine, replace(disk, initiators=(HOST,)), PORTS[0])
        assert host(PORTS[0]).login(IQN).status == 0
        stranger = host(PORTS[0], name="iqn.2024-01.lab.h2:host")
        assert stranger.login(IQN).status in (FORBIDDEN, NOT_FOUND)

    def test_a_secret_is_asked_for_at_discovery(
        self, engine: TargetEngine, disk: TargetSpec, host: Connect
    ) -> None:
        serve(engine, disk, PORTS[0])
        engine.protect_discovery(ChapAccount("carol", "discover-this"))
        assert host(PORTS[0]).login(None, "carol", "wrong-secret1").status == AUTHENTICATION_FAILURE
        assert host(PORTS[0]).login(None, "carol", "discover-this").status == 0

    def test_a_killed_daemon_serves_the_same_again(
        self, net: Net, engine: TargetEngine, disk: TargetSpec, host: Connect, tmp_path: Path
    ) -> None:
        if not isinstance(engine, KillableDaemon):
            pytest.skip(f"{engine.name} is not a process that can be killed")
        account = ChapAccount("alice", "correct-horse")
        other = TargetSpec(f"{IQN}2", (unit(3, tmp_path),))
        serve(engine, replace(disk, accounts=(account,)), *PORTS[:2])
        engine.create(other)
        engine.set_parameter(IQN, "DefaultTime2Wait", "9")
        exposed = listening(net)
        url = f"iscsi://alice%correct-horse@{PORTS[0]}/{IQN}/1"
        net.hosts.run([*QEMU, "write -P 0x77 0 64k", url])
        initiator = host(PORTS[0])
        assert initiator.login(IQN, "alice", "correct-horse").status == 0
        before = initiator.inquiry(DISK, IDENTITY)
        engine.kill()
        with pytest.raises((EOFError, ConnectionError)):
            initiator.receive()
        assert refuses(lambda: host(PORTS[0]))
        engine.restart()
        assert listening(net) == exposed
        initiator = host(PORTS[0])
        login = initiator.login(IQN, "alice", "correct-horse")
        assert (login.status, login.keys["DefaultTime2Wait"]) == (0, "9")
        assert initiator.inquiry(DISK, IDENTITY) == before
        assert host(PORTS[0]).login(IQN).status == AUTHENTICATION_FAILURE
        assert host(PORTS[0]).login(other.iqn).status == 0
        net.hosts.run([*QEMU, "read -P 0x77 0 64k", url])

    def test_ipv6(self, engine: TargetEngine, disk: TargetSpec, host: Connect) -> None:
        serve(engine, disk, PORT6)
        assert host(PORT6, HOST6).login(IQN).status == 0

    def test_native_redirect(self, engine: TargetEngine, disk: TargetSpec, host: Connect) -> None:
        if not isinstance(engine, RedirectsNatively):
            pytest.skip(f"{engine.name} cannot redirect")
        serve(engine, disk, *PORTS[:2])
        engine.redirect(IQN, PORTS[1])
        login = host(PORTS[0]).login(IQN)
        assert (login.status, login.keys["TargetAddress"]) == (0x0101, f"{PORTS[1]}:3260")
        engine.redirect(IQN, PORT6, permanent=True)
        login = host(PORTS[0]).login(IQN)
        assert (login.status, login.keys["TargetAddress"]) == (0x0102, f"[{PORT6}]:3260")
        engine.redirect(IQN, None)
        assert host(PORTS[0]).login(IQN).status == 0

    def test_stop_leaves_nothing_but_disks_and_logs(
        self, net: Net, engine: TargetEngine, disk: TargetSpec, tmp_path: Path
    ) -> None:
        serve(engine, disk, PORTS[0])
        engine.stop()
        engine.stop()
        assert listening(net) == set()
        kept = {p.name for p in tmp_path.rglob("*") if not p.is_dir() and p.suffix != ".log"}
        assert kept == {"disk1", "disk2"}
        with pytest.raises(LabError):
            engine.expose(PORTS[0])

    def test_what_cannot_be_done_says_where(self, engine: TargetEngine, disk: TargetSpec) -> None:
        serve(engine, disk, PORTS[0])
        acts: tuple[tuple[Callable[[], None], str], ...] = (
            (lambda: engine.create(disk), f"{IQN}: exists already"),
            (lambda: engine.create(replace(disk, iqn="disk")), "'disk' is not an iSCSI name"),
            (lambda: engine.expose(PORTS[0]), f"{PORTS[0]}:3260: is exposed already"),
            (lambda: engine.expose("port1"), "'port1': not an IP address"),
            (lambda: engine.set_parameter("iqn.2024-01.lab:x", "A", "1"), "lab:x: unknown"),
        )
        for act, message in acts:
            with pytest.raises(LabError, match=message):
                act()

    def test_a_disk_of_another_size_is_not_taken(
        self, engine: TargetEngine, disk: TargetSpec
    ) -> None:
        disk.luns[0].path.write_bytes(b"someone's")
        with pytest.raises(BadInput, match=r"LUN 1: .*disk1 has 9 bytes"):
            engine.create(disk)
        assert disk.luns[0].path.read_bytes() == b"someone's"

    def test_disks_are_sparse(self, engine: TargetEngine, disk: TargetSpec) -> None:
        engine.create(disk)
        stat = disk.luns[0].path.stat()
        assert (stat.st_size, stat.st_blocks) == (16 * MIB, 0)
