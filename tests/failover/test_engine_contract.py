"""What every target engine must do, seen by an initiator; one more engine is one more line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from net import HOST6, HOSTS, PORT6, PORTS, Net, booted, guest_network, initiator_name, network
from wire import Initiator

from lab.errors import BadInput, CommandFailed, LabError
from lab.waiting import wait_for
from targets.base import (
    ChapAccount,
    EngineSession,
    KillableDaemon,
    Lun,
    RedirectsNatively,
    TargetEngine,
    TargetSpec,
)
from targets.lio import STORES, Lio
from targets.tgt import Tgt
from targets.tgtadm import Tgtadm

ENGINES: dict[str, Callable[[Net, Path], TargetEngine]] = {
    "tgt": lambda net, tmp: Tgt(net.array, tmp / "work", tmp / "logs"),
    "lio": lambda net, tmp: Lio(net.guest, tmp / "logs"),
}
IN_A_GUEST = {"lio"}
IQN = "iqn.2024-01.lab.a1:disk"
HOST = "iqn.2024-01.lab.h1:host"
MIB = 1 << 20
DISK, IDENTITY, SERIAL = 1, 0x83, 0x80
AUTHENTICATION_FAILURE, FORBIDDEN, NOT_FOUND = 0x0201, 0x0202, 0x0203


def lun(number: int, folder: Path) -> Lun:
    return Lun(number, folder / f"disk{number}", 16 * MIB, f"a100000{number}", f"SN000{number}")


@pytest.fixture(scope="module")
def namespaces() -> Iterator[Net]:
    with network() as made:
        yield made


@pytest.fixture(scope="module")
def guest(tmp_path_factory) -> Iterator[Net]:
    with guest_network(tmp_path_factory.mktemp("guest"), tmp_path_factory.getbasetemp()) as made:
        yield made


@pytest.fixture(params=ENGINES)
def name(request) -> str:
    return request.param


@pytest.fixture
def net(request, name) -> Net:
    return request.getfixturevalue("guest" if name in IN_A_GUEST else "namespaces")


@pytest.fixture
def engine(name, net, tmp_path) -> Iterator[TargetEngine]:
    made = ENGINES[name](net, tmp_path)
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def disk(tmp_path) -> TargetSpec:
    return TargetSpec(IQN, (lun(1, tmp_path), lun(2, tmp_path)))


@pytest.fixture
def host(net) -> Iterator[Callable[..., Initiator]]:
    opened: list[Initiator] = []

    def connect(portal: str, source: str = HOSTS[0], name: str = "", isid: int = 1) -> Initiator:
        name = name or initiator_name(source)
        opened.append(Initiator(net.hosts_pid, source, name, b"\x80\0\0\0\0" + bytes([isid])))
        return opened[-1].connect(portal)

    yield connect
    for initiator in opened:
        initiator.close()


def listening(net: Net) -> set[str]:
    lines = net.array.run(["ss", "-tlnH"]).output.splitlines()
    return {line.split()[3] for line in lines} - {"169.254.0.2:22"}  # how commands reach a guest


def serve(engine: TargetEngine, disk: TargetSpec, *portals: str) -> None:
    engine.create(disk)
    for portal in portals:
        engine.expose(portal)


def refuses(connect: Callable[[], object]) -> bool:
    try:
        connect()
    except ConnectionRefusedError:
        return True
    return False


def test_listens_where_it_is_exposed_and_nowhere_else(net, engine, disk):
    assert listening(net) <= {engine.local_portal}
    assert engine.local_portal.startswith("127.")
    serve(engine, disk, PORTS[0], f"[{PORT6}]:3260")
    assert listening(net) == {engine.local_portal, f"{PORTS[0]}:3260", f"[{PORT6}]:3260"}


def test_a_disk_is_the_same_at_every_port(engine, disk, host):
    serve(engine, disk, *PORTS[:2])
    seen = []
    for port in PORTS[:2]:
        initiator = host(port)
        assert initiator.login(IQN).status == 0
        seen.append({(n, p): initiator.inquiry(n, p) for n in (1, 2) for p in (IDENTITY, SERIAL)})
        initiator.close()
    assert seen[0] == seen[1]
    assert b"SN0001" in seen[0][1, SERIAL]
    # Also as the NAA designator, which is what Linux makes the name of a disk of.
    assert "a1000001" in seen[0][1, IDENTITY].hex()
    assert len(set(seen[0].values())) == 4


def test_data_written_at_one_port_is_read_at_another(net, engine, disk):
    serve(engine, disk, *PORTS[:2])
    qemu = ["qemu-io", "-f", "raw", "-t", "none", "-c"]
    net.hosts.run([*qemu, "write -P 0x5a 1M 64k", f"iscsi://{PORTS[0]}/{IQN}/1"])
    read = [*qemu, "read -P 0x5a 1M 64k"]
    net.hosts.run([*read, f"iscsi://{PORTS[1]}/{IQN}/1"])
    other = net.hosts.run([*read, f"iscsi://{PORTS[1]}/{IQN}/2"], check=False)
    assert "Pattern verification failed" in other.output


def test_a_hidden_port_refuses_but_its_connections_live(engine, disk, host):
    serve(engine, disk, *PORTS[:2])
    before = host(PORTS[0])
    assert before.login(IQN).status == 0
    engine.hide(PORTS[0])
    assert refuses(lambda: host(PORTS[0], isid=2))
    assert before.ping() == b"still there?"
    assert host(PORTS[1], isid=3).login(IQN).status == 0
    engine.expose(PORTS[0])
    assert host(PORTS[0], isid=4).login(IQN).status == 0


def test_sessions_know_the_host_and_the_port(engine, disk, host):
    serve(engine, disk, *PORTS)
    other = initiator_name(HOSTS[1])
    first, second = host(PORTS[0]), host(PORTS[2], HOSTS[1])
    assert engine.sessions() == []
    assert first.login(IQN).status == 0
    assert second.login(IQN).status == 0
    seen = {(s.initiator, s.initiator_address, s.portal, s.target) for s in engine.sessions()}
    assert seen == {
        (HOST, HOSTS[0], f"{PORTS[0]}:3260", IQN),
        (other, HOSTS[1], f"{PORTS[2]}:3260", IQN),
    }
    first.close()
    left = wait_for("one session", engine.sessions, until=lambda s: len(s) == 1, seconds=2)
    assert left[0].initiator == other


def test_a_port_is_not_guessed(engine, disk, host):
    serve(engine, disk, *PORTS)
    one, two = host(PORTS[0]), host(PORTS[1], isid=2)
    assert one.login(IQN).status == two.login(IQN).status == 0
    assert [s.portal for s in engine.sessions()] == [None, None]
    two.close()
    left = wait_for("one session", engine.sessions, until=lambda s: len(s) == 1, seconds=2)
    assert left[0].portal == f"{PORTS[0]}:3260"


def test_discovery_is_no_session(engine, disk, host):
    serve(engine, disk, PORTS[0])
    initiator = host(PORTS[0])
    assert initiator.login(None).status == 0
    assert {target for target, _ in initiator.discover()} == {IQN}
    assert engine.sessions() == []


def test_cut_ends_one_connection(engine, disk, host):
    serve(engine, disk, *PORTS[:2])
    doomed, other = host(PORTS[0]), host(PORTS[1], HOSTS[1])
    assert doomed.login(IQN).status == other.login(IQN).status == 0
    engine.cut(next(s for s in engine.sessions() if s.initiator_address == HOSTS[0]))
    with pytest.raises(EOFError):
        doomed.receive()
    assert other.ping() == b"still there?"
    gone = EngineSession(IQN, HOST, HOSTS[0], None, 999, 0)
    with pytest.raises(LabError):
        engine.cut(gone)


def test_parameters_are_offered_at_login(engine, disk, host):
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
def test_chap(engine, disk, host, user, secret, status):
    account = ChapAccount("alice", "correct-horse")
    serve(engine, replace(disk, accounts=(account,)), PORTS[0])
    try:
        assert host(PORTS[0]).login(IQN, user, secret).status == status
    except EOFError:
        # LIO has no answer for a host that offers no method but None: it hangs up.
        assert (engine.name, user) == ("lio", "")
    assert len(engine.sessions()) == (status == 0)


def test_a_host_with_a_secret_that_nobody_asks_for(engine, disk, host):
    serve(engine, disk, PORTS[0])
    names = {"InitiatorName": HOST, "TargetName": IQN, "SessionType": "Normal"}
    flags, login = host(PORTS[0]).login_step(0x81, {**names, "AuthMethod": "CHAP,None"})
    assert (flags, login.status, login.keys["AuthMethod"]) == (0x81, 0, "None")


def test_only_the_hosts_that_are_named_may_log_in(engine, disk, host):
    serve(engine, replace(disk, initiators=(HOST,)), PORTS[0])
    assert host(PORTS[0]).login(IQN).status == 0
    stranger = host(PORTS[0], name="iqn.2024-01.lab.h2:host")
    assert stranger.login(IQN).status in (FORBIDDEN, NOT_FOUND)
    assert len(engine.sessions()) == 1


def test_a_killed_daemon_serves_the_same_again(net, engine, disk, host, tmp_path):
    if not isinstance(engine, KillableDaemon):
        pytest.skip(f"{engine.name} is not a process that can be killed")
    account = ChapAccount("alice", "correct-horse")
    other = TargetSpec(f"{IQN}2", (lun(3, tmp_path),))
    serve(engine, replace(disk, accounts=(account,)), *PORTS[:2])
    engine.create(other)
    engine.set_parameter(IQN, "DefaultTime2Wait", "9")
    engine.hide(PORTS[1])
    exposed = listening(net)
    url = f"iscsi://alice%correct-horse@{PORTS[0]}/{IQN}/1"
    qemu = ["qemu-io", "-f", "raw", "-t", "none", "-c"]
    net.hosts.run([*qemu, "write -P 0x77 0 64k", url])
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
    net.hosts.run([*qemu, "read -P 0x77 0 64k", url])


def test_ipv6(engine, disk, host):
    serve(engine, disk, PORT6)
    initiator = host(PORT6, HOST6)
    assert initiator.login(IQN).status == 0
    session = engine.sessions()[0]
    assert (session.initiator_address, session.portal) == (HOST6, f"[{PORT6}]:3260")


def test_native_redirect(engine, disk, host):
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


def test_stop_leaves_nothing_but_disks_and_logs(net, engine, disk, tmp_path):
    serve(engine, disk, PORTS[0])
    engine.stop()
    engine.stop()
    assert listening(net) == set()
    kept = {p.name for p in tmp_path.rglob("*") if not p.is_dir() and p.suffix != ".log"}
    assert kept == {"disk1", "disk2"}
    with pytest.raises(LabError):
        engine.expose(PORTS[0])


def test_what_cannot_be_done_says_where(engine, disk):
    serve(engine, disk, PORTS[0])
    for act, message in (
        (lambda: engine.create(disk), f"{IQN}: exists already"),
        (lambda: engine.create(replace(disk, iqn="disk")), "'disk': not an iSCSI name"),
        (lambda: engine.expose(PORTS[0]), f"{PORTS[0]}:3260: is exposed already"),
        (lambda: engine.expose("port1"), "'port1': not an IP address"),
        (lambda: engine.hide(PORTS[1]), f"{PORTS[1]}:3260: is not exposed"),
        (lambda: engine.set_parameter("iqn.2024-01.lab:x", "A", "1"), "lab:x: unknown"),
    ):
        with pytest.raises(LabError, match=message.replace("[", r"\[")):
            act()


def test_a_disk_of_another_size_is_not_taken(engine, disk):
    disk.luns[0].path.write_bytes(b"someone's")
    with pytest.raises(BadInput, match="LUN 1: .*disk1 has 9 bytes"):
        engine.create(disk)
    assert disk.luns[0].path.read_bytes() == b"someone's"


def test_disks_are_sparse(engine, disk):
    engine.create(disk)
    stat = disk.luns[0].path.stat()
    assert (stat.st_size, stat.st_blocks) == (16 * MIB, 0)


@pytest.mark.parametrize("name", ["tgt"])
class TestTgtAlone:
    """What only a tgtd can get wrong."""

    def test_an_address_that_is_not_there(self, engine, disk):
        serve(engine, disk, PORTS[0])
        with pytest.raises(LabError, match="cannot listen at 10.9.9.9:3260"):
            engine.expose("10.9.9.9")

    def test_bring_up_is_quick(self, net, tmp_path, disk, monkeypatch):
        calls: list[tuple[str, ...]] = []
        call = Tgtadm.__call__

        def counted(tgtadm: Tgtadm, *request: str) -> str:
            calls.append(request)
            return call(tgtadm, *request)

        monkeypatch.setattr(Tgtadm, "__call__", counted)
        took = []
        for name in "abcde":
            engine = Tgt(net.array, tmp_path / name, tmp_path)
            begin = time.perf_counter()
            try:
                engine.start()
                calls.clear()
                serve(engine, disk, *PORTS)
                took.append(time.perf_counter() - begin)
            finally:
                engine.stop()
        # The target, two for each disk, the access list, one for each port: 3 ms each.
        assert len(calls) == 1 + 2 * 2 + 1 + 3
        # Measured: 50 ms. More than this is a wait somewhere, not a busy machine.
        assert min(took) < 0.3

    def test_a_long_path_is_no_obstacle(self, net, tmp_path, disk):
        deep = tmp_path / ("x" * 60) / ("y" * 60)
        engine = Tgt(net.array, deep, tmp_path)
        try:
            engine.start()
            serve(engine, disk, PORTS[0])
        finally:
            engine.stop()
        assert not list(deep.iterdir())

    def test_two_live_side_by_side_but_not_in_one_place(self, net, tmp_path, disk):
        one, two = (Tgt(net.array, tmp_path, tmp_path, number) for number in (1, 2))
        try:
            one.start()
            two.start()
            serve(one, disk, PORTS[0])
            serve(two, disk, PORTS[1])
            with pytest.raises(LabError, match="in use by another tgtd"):
                Tgt(net.array, tmp_path, tmp_path, 1).start()
            one.set_parameter(IQN, "DefaultTime2Wait", "1")
        finally:
            one.stop()
            two.stop()

    def test_one_that_listens_everywhere_is_refused_and_gone(self, net, tmp_path):
        engine = Tgt(net.array, tmp_path / "work", tmp_path)
        # What tgtd does when it cannot have the portal that it is started with.
        engine._local_portal = "10.9.9.9:0"
        try:
            with pytest.raises(LabError, match=r"listens at .*0\.0\.0\.0:3260") as error:
                engine.start()
            assert "unable to bind" in str(error.value)
            assert listening(net) == set()
            assert not list((tmp_path / "work").iterdir())
        finally:
            engine.stop()

    def test_a_tgtd_that_dies_shows_its_log(self, net, tmp_path, monkeypatch):
        broken = tmp_path / "tgtd"
        broken.write_text("#!/bin/sh\necho no such luck >&2\nexit 7\n")
        broken.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        engine = Tgt(net.array, tmp_path / "work", tmp_path)
        with pytest.raises(LabError, match=r"(?s)status 7.*no such luck"):
            engine.start()

    def test_a_target_that_failed_half_way_is_gone(self, engine, disk, host, monkeypatch):
        with monkeypatch.context() as patched:
            patched.setattr("targets.tgt.make_sparse", lambda _: None)
            with pytest.raises(CommandFailed, match="--mode=logicalunit --op=new"):
                engine.create(disk)
        serve(engine, disk, PORTS[0])
        initiator = host(PORTS[0])
        assert initiator.login(IQN).status == 0
        assert b"SN0002" in initiator.inquiry(2, SERIAL)

    def test_a_tgtd_that_cannot_be_started_leaves_nothing(self, net, tmp_path, monkeypatch):
        engine = Tgt(net.array, tmp_path / "work", tmp_path)
        with monkeypatch.context() as patched:
            patched.setattr(net.array, "_prefix", ["no-such-program"])
            with pytest.raises(LabError, match="no-such-program"):
                engine.start()
        try:
            engine.start()
        finally:
            engine.stop()

    def test_mutual_and_discovery_chap(self, engine, disk, host):
        accounts = (
            ChapAccount("alice", "correct-horse"),
            ChapAccount("array", "battery-staple", mutual=True),
        )
        serve(engine, replace(disk, accounts=accounts), PORTS[0])
        engine.protect_discovery(ChapAccount("carol", "discover-this"))
        assert host(PORTS[0]).login(IQN, "alice", "correct-horse").status == 0
        assert host(PORTS[0]).login(IQN, "array", "battery-staple").status
        assert host(PORTS[0]).login(None).status == AUTHENTICATION_FAILURE
        assert host(PORTS[0]).login(None, "carol", "discover-this").status == 0

    def test_one_name_has_one_secret(self, engine, disk):
        engine.create(replace(disk, accounts=(ChapAccount("alice", "correct-horse"),)))
        other = TargetSpec(f"{IQN}2", disk.luns, (ChapAccount("alice", "another-horse"),))
        with pytest.raises(BadInput, match="alice has another secret"):
            engine.create(other)


@pytest.mark.parametrize("name", ["lio"])
class TestLioAlone:
    """What only an engine with a kernel of its own can do, or get wrong."""

    def test_a_portal_may_precede_its_address(self, net, engine, disk, host):
        serve(engine, disk, "10.0.0.99")
        net.array.run(["ip", "address", "add", "10.0.0.99/24", "dev", "p1"])
        try:
            assert host("10.0.0.99").login(IQN).status == 0
        finally:
            net.array.run(["ip", "address", "del", "10.0.0.99/24", "dev", "p1"])

    def test_alua_states_can_be_read(self, engine, disk):
        engine.create(disk)
        assert engine.alua_states(IQN) == {1: 0, 2: 0}

    def test_one_account_is_all_it_holds(self, engine, disk):
        accounts = (ChapAccount("alice", "correct-horse"), ChapAccount("bob", "correct-horse2"))
        with pytest.raises(BadInput, match="LIO holds one CHAP account"):
            engine.create(replace(disk, accounts=accounts))

    def test_mutual_and_discovery_chap(self, engine, disk, host):
        accounts = (
            ChapAccount("alice", "correct-horse"),
            ChapAccount("array", "battery-staple", mutual=True),
        )
        serve(engine, replace(disk, accounts=accounts), PORTS[0])
        engine.protect_discovery(ChapAccount("carol", "discover-this"))
        assert host(PORTS[0]).login(IQN, "alice", "correct-horse").status == 0
        assert host(PORTS[0]).login(None, "carol", "wrong-secret1").status == AUTHENTICATION_FAILURE
        assert host(PORTS[0]).login(None, "carol", "discover-this").status == 0
        engine.stop()
        engine.start()
        serve(engine, disk, PORTS[0])
        assert host(PORTS[0]).login(None).status == 0

    @pytest.mark.parametrize("store", STORES)
    def test_a_power_cut_loses_nothing_that_was_flushed(self, net, disk, host, tmp_path, store):
        engine = Lio(net.guest, tmp_path / "logs", store)
        account = ChapAccount("alice", "correct-horse")
        engine.start()
        try:
            serve(engine, replace(disk, accounts=(account,)), *PORTS[:2])
            engine.set_parameter(IQN, "DefaultTime2Wait", "9")
            url = f"iscsi://alice%correct-horse@{PORTS[0]}/{IQN}/1"
            # A store that says that it has no cache is not flushed: qemu does it, Linux does not.
            flushed = "none" if store in ("block", "file-write-back") else "unsafe"
            qemu = ["qemu-io", "-f", "raw", "-t"]
            net.hosts.run([*qemu, flushed, "-c", "write -P 0x77 0 64k", url])
            before = host(PORTS[0])
            assert before.login(IQN, "alice", "correct-horse").status == 0
            identity = before.inquiry(DISK, IDENTITY)
            engine.power_cut()
            engine.power_on()
            booted(net)
            again = host(PORTS[0])
            login = again.login(IQN, "alice", "correct-horse")
            assert (login.status, login.keys["DefaultTime2Wait"]) == (0, "9")
            assert again.inquiry(DISK, IDENTITY) == identity
            read = net.hosts.run([*qemu, "none", "-c", "read -P 0x77 0 64k", url], check=False)
            lost = "Pattern verification failed" in read.output
            assert lost == (store == "file-lying")
        finally:
            engine.stop()
