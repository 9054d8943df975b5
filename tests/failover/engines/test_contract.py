"""What every target engine must do, seen by an initiator."""

from __future__ import annotations

from dataclasses import replace

import pytest
from contract import (
    AUTHENTICATION_FAILURE,
    DISK,
    FORBIDDEN,
    HOST,
    IDENTITY,
    IQN,
    MIB,
    NOT_FOUND,
    SERIAL,
    listening,
    lun,
    refuses,
    serve,
)
from net import HOST6, HOSTS, PORT6, PORTS, initiator_name

from lab.errors import BadInput, LabError
from lab.waiting import wait_for
from targets.base import ChapAccount, EngineSession, KillableDaemon, RedirectsNatively, TargetSpec


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
