"""The relay as a process between libiscsi and a real tgtd, in namespaces that the test makes."""

from __future__ import annotations

import contextlib
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.array.site import Site
from lab.commands import CommandFailed, require
from lab.errors import BadInput, LabError, Missing
from lab.suite.net import PORTS, Net, network
from targets.base import LogicalUnit, TargetSpec
from targets.relay.process import RelayProcess
from targets.tgt.engine import Tgt

IQN = "iqn.2024-01.lab.a1:disk"
SIZE = 32 << 20
DIRECT = f"{PORTS[0]}:3261"
P1, P2 = f"{PORTS[0]}:3260", f"{PORTS[1]}:3260"
"""The portals of one relay's two ports; behind both is the engine's own portal."""


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    try:
        require("qemu-img", "qemu-utils qemu-block-extra")
        with network() as made:
            yield made
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def disk(net, tmp_path_factory) -> Iterator[tuple[Tgt, Path]]:
    folder = tmp_path_factory.mktemp("tgt")
    engine = Tgt(net.array, folder / "work", folder / "logs")
    engine.start()
    try:
        engine.create(
            TargetSpec(IQN, (LogicalUnit(1, folder / "disk", SIZE, "c0000001", "RELAY1"),))
        )
        engine.expose(DIRECT)
        yield engine, folder / "disk"
    finally:
        engine.stop()


@pytest.fixture
def relay(net, disk, tmp_path) -> Iterator[RelayProcess]:
    engine, _ = disk
    ports = [
        {"name": name, "listen": [portal], "backend": engine.local_portal}
        for name, portal in (("p1", P1), ("p2", P2))
    ]
    made = RelayProcess(Site(net.array, tmp_path), {"name": "a1", "ports": ports}, tmp_path)
    try:
        yield made
    finally:
        made.stop()
    assert not made.found("internal-error")
    assert not made.found("bad-pdu")


@pytest.fixture
def blob(tmp_path) -> Path:
    path = tmp_path / "blob"
    path.write_bytes(random.Random(7).randbytes(SIZE))
    return path


def image(portal: str, digest: str = "none") -> str:
    where = f"file.driver=iscsi,file.transport=tcp,file.portal={portal},file.target={IQN}"
    return f"driver=raw,{where},file.lun=1,file.header-digest={digest}"


def put(net: Net, blob: Path, portal: str, digest: str = "none") -> None:
    net.hosts.run(
        [
            *("qemu-img", "convert", "-n", "-t", "none", "-f", "raw"),
            *("--target-image-opts", str(blob), image(portal, digest)),
        ]
    )


def get(net: Net, portal: str, to: Path, digest: str = "none") -> bytes:
    net.hosts.run(
        [
            *("qemu-img", "convert", "-T", "none", "-O", "raw"),
            *("--image-opts", image(portal, digest), str(to)),
        ]
    )
    return to.read_bytes()


@contextlib.contextmanager
def qemu_img(net: Net, *argv: str) -> Iterator[subprocess.Popen]:
    """A qemu-img of a host that goes on while the test acts, and must succeed in the end."""
    process = subprocess.Popen(
        ["mnexec", "-a", str(net.hosts_pid), "qemu-img", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
    finally:
        process.kill()
        process.wait()


def writes(portal: str, size: int = 65536, count: int = 6000) -> list[str]:
    """`qemu-img bench` for about a second: `count` writes of `size` bytes, 16 at a time."""
    argv = ["bench", "-c", str(count), "-d", "16", "-s", str(size), "-w", "-n", "-t", "none"]
    return [*argv, "--image-opts", image(portal)]


IMMEDIATE = 4096, 40000
"""Size and count of writes without Data-Out. With one waiting to be sent, libiscsi before 1.20 may
cut the connection where it wants to log out: its Logout takes that one's CmdSN, which is behind
what the target expects by then (iscsi_add_to_outqueue, lib/socket.c; mended in 7e59b9b)."""


@pytest.mark.parametrize("digest", ["None", "CRC32C"])
def test_what_is_written_through_the_relay_is_what_is_read(
    net, disk, relay, blob, digest, tmp_path
):
    """Header digests: libiscsi offers no data digest, tgtd has it only if the target says so."""
    engine, path = disk
    engine.set_parameter(IQN, "HeaderDigest", digest)
    path.write_bytes(bytes(SIZE))
    try:
        put(net, blob, P2, digest.lower())
        assert path.read_bytes() == blob.read_bytes()
        assert get(net, P2, tmp_path / "back", digest.lower()) == blob.read_bytes()
    finally:
        engine.set_parameter(IQN, "HeaderDigest", "None")
    chosen = [e["header_digest"] for e in relay.found("full-feature")]
    assert chosen == [digest.replace("None", "none")] * 2
    relay.wait("closed", 2)
    moved = [e["bytes_to_target"] for e in relay.found("closed")]
    assert moved[0] > SIZE > moved[1]


def test_messages_under_load_leave_the_data_alone(net, disk, relay, blob):
    """libiscsi takes no notice of event 0 (SCSI): one connection, renumbered throughout."""
    engine, path = disk
    engine.set_parameter(IQN, "HeaderDigest", "CRC32C")
    path.write_bytes(bytes(SIZE))
    try:
        relay.command("delay", opcode="r2t", count=30, seconds=0.01)
        argv = ["convert", "-n", "-t", "none", "-f", "raw", "--target-image-opts"]
        with qemu_img(net, *argv, str(blob), image(P2, "crc32c")):
            for count in (1, 10, 20):
                relay.wait("rule-delay", count)
                assert relay.command("async", event=0)["connections"] == [1]
    finally:
        engine.set_parameter(IQN, "HeaderDigest", "None")
    assert path.read_bytes() == blob.read_bytes()
    assert len(relay.found("async-sent")) == 3
    assert len(relay.found("accepted")) == 1


def test_libiscsi_follows_a_redirect_of_the_relay(net, disk, relay, blob, tmp_path):
    disk[1].write_bytes(blob.read_bytes())
    relay.command("answer-login", select={"port": "p1"}, target_address=f"{P2},1")
    assert get(net, P1, tmp_path / "back") == blob.read_bytes()
    assert [e["where"] for e in relay.found("login-answered")] == ["p1"]
    assert [e["where"] for e in relay.found("full-feature")] == ["p2"]


@pytest.mark.parametrize("status", ["0x0102", "0x0201", "0x0301"])
def test_libiscsi_takes_every_other_status_as_a_refusal(net, disk, relay, tmp_path, status):
    """Also "moved permanently" (0x0102), which RFC 7143, 11.13.5, wants followed."""
    relay.command("answer-login", status=status, target_address=f"{P2},1", count=None)
    with pytest.raises(CommandFailed, match=rf"Failed to log in .*\({int(status, 16)}\)"):
        get(net, P1, tmp_path / "back")
    assert not relay.found("full-feature")


def test_a_redirect_loop_ends_when_the_order_does(net, disk, relay, blob, tmp_path):
    disk[1].write_bytes(blob.read_bytes())
    relay.command("answer-login", target_address="{local},1", count=4)
    assert get(net, P1, tmp_path / "back") == blob.read_bytes()
    assert len(relay.found("login-answered")) == 4


@pytest.mark.parametrize("address", [None, "", f"{PORTS[1]}:port", f"{PORTS[2]}:3260,1"])
def test_a_redirect_that_leads_nowhere_fails_the_login(net, disk, relay, tmp_path, address):
    relay.command("answer-login", target_address=address, count=None)
    with pytest.raises(CommandFailed):
        get(net, P1, tmp_path / "back")
    assert relay.found("login-answered")
    assert not relay.found("full-feature")


def test_libiscsi_logs_out_and_comes_back_when_it_is_asked_to(net, disk, relay):
    """Async Message event 1: Logout (reason 0), then at once a new login, with another ISID."""
    with qemu_img(net, *writes(P2, *IMMEDIATE)):
        relay.wait("full-feature")
        relay.command("answer-login", target_address=f"{P1},1", select={"port": "p2"})
        assert relay.command("async", event=1, parameter3=3)["connections"] == [1]
    story = [(e["what"], e["connection"]) for e in relay.events if "connection" in e]
    assert story.index(("async-sent", 1)) < story.index(("logout", 1)) < story.index(("login", 2))
    assert [e["where"] for e in relay.found("full-feature")] == ["p2", "p1"]
    assert [e["reason"] for e in relay.found("dropped")] == ["login-answered"]


@pytest.mark.parametrize(("event", "logouts"), [(4, [1, 2]), (255, [2])])
def test_libiscsi_comes_back_after_events_it_does_not_serve(net, disk, relay, event, logouts):
    """It logs out where parameters are to be negotiated anew, and cuts where it knows no event."""
    with qemu_img(net, *writes(P2, *IMMEDIATE)):
        relay.wait("full-feature")
        relay.command("async", event=event)
    relay.wait("closed", 2)
    assert len(relay.found("full-feature")) == 2
    assert [e["connection"] for e in relay.found("logout")] == logouts
    assert not relay.found("dropped")


@pytest.mark.parametrize("event", [2, 3])
def test_libiscsi_comes_back_after_an_announced_drop(net, disk, relay, event):
    with qemu_img(net, *writes(P2)):
        relay.wait("full-feature")
        relay.command("async", event=event, parameter2=1, parameter3=3)
    assert relay.found("dropped")[0]["reason"] == "drop-announced"
    assert len(relay.found("full-feature")) == 2


@pytest.mark.parametrize("how", ["fin", "reset"])
@pytest.mark.parametrize(
    ("direction", "opcode", "skip"),
    [("to-target", "data-out", 30), ("to-initiator", "scsi-response", 8)],
)
def test_closing_in_the_middle_of_a_pdu_loses_nothing(
    net, disk, relay, blob, direction, opcode, skip, how
):
    disk[1].write_bytes(bytes(SIZE))
    relay.command("close", direction=direction, opcode=opcode, skip=skip, how=how)
    put(net, blob, P2)
    assert disk[1].read_bytes() == blob.read_bytes()
    cut = relay.found("rule-close")[0]
    assert 0 < cut["after"] < cut["of"]
    assert len(relay.found("full-feature")) == 2


def test_a_relay_that_is_told_nonsense_says_so_and_goes_on(net, disk, relay, blob, tmp_path):
    with pytest.raises(BadInput, match="nop-in"):
        relay.command("swallow", opcode="no-such-thing")
    disk[1].write_bytes(blob.read_bytes())
    assert get(net, P2, tmp_path / "back") == blob.read_bytes()


def test_a_relay_that_cannot_start_says_why(net, tmp_path):
    config = {"ports": [{"name": "p1", "listen": ["p1:3260"], "backend": "127.0.0.1:1"}]}
    with pytest.raises(LabError, match="'p1:3260': not an IP address"):
        RelayProcess(Site(net.array, tmp_path), config, tmp_path)


def test_a_relay_listens_at_an_address_that_comes_later_and_moves(net, disk, tmp_path, blob):
    late = "10.0.0.77"
    disk[1].write_bytes(blob.read_bytes())
    port = {"name": "p3", "listen": [f"{late}:3260"], "backend": disk[0].local_portal}
    relay = RelayProcess(Site(net.array, tmp_path), {"ports": [port]}, tmp_path)
    try:
        for _ in range(2):
            net.array.run(["ip", "addr", "add", f"{late}/24", "dev", "a1-p1"])
            assert get(net, f"{late}:3260", tmp_path / "back") == blob.read_bytes()
            net.array.run(["ip", "addr", "del", f"{late}/24", "dev", "a1-p1"])
    finally:
        relay.stop()
    assert len(relay.found("full-feature")) == 2
