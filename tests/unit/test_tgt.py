"""Descriptions of targets, their portals, and what tgtadm's failures may show: no root needed."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from lab.array.site import Site
from lab.commands import LocalRunner
from lab.errors import BadInput, CommandFailed, LabError, Missing
from lab.portal import Portal
from targets.base import (
    ChapAccount,
    KillableDaemon,
    LogicalUnit,
    OwnKernel,
    RedirectsNatively,
    TargetEngine,
    TargetSpec,
    check_target,
)
from targets.front.service import Service
from targets.front.steered import SteeredFront
from targets.tgt.engine import Tgt
from targets.tgt.tgtadm import Tgtadm

DISK = LogicalUnit(1, Path("/run/disk1"), 1 << 20, "a1000001", "SN0001")
TARGET = TargetSpec("iqn.2024-01.lab.a1:disk", (DISK,))
ALICE = ChapAccount("alice", "correct-horse")
ARRAY = ChapAccount("array", "battery-staple", mutual=True)


def test_a_sound_target_is_taken():
    second = replace(DISK, number=2, path=Path("/run/disk2"), scsi_id="a1000002", serial="SN0002")
    check_target(replace(TARGET, luns=(DISK, second), accounts=(ALICE, ARRAY)))
    debian = ("iqn.1993-08.org.debian:01:1b",)
    check_target(replace(TARGET, iqn="eui.02004567a425678d", initiators=debian))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iqn": "disk1"}, "target: 'disk1' is not an iSCSI name"),
        ({"iqn": "iqn.2024-01.lab.a1:" + "x" * 220}, "not an iSCSI name"),
        ({"iqn": "iqn.2024-01.lab.a1:a b"}, "not an iSCSI name"),
        ({"initiators": ("h1",)}, "a1:disk, initiators: 'h1'"),
        ({"luns": ()}, "a1:disk: has no LUN"),
        ({"luns": (DISK, DISK)}, "two LUNs with one number"),
        ({"luns": (DISK, replace(DISK, number=2))}, "two LUNs with one path"),
        (
            {"luns": (DISK, replace(DISK, number=2, path=Path("/run/disk2")))},
            "two LUNs with one scsi_id",
        ),
        ({"luns": (replace(DISK, number=0),)}, "a1:disk, LUN 0: the number must be"),
        ({"luns": (replace(DISK, number=256),)}, "LUN 256: the number must be"),
        ({"luns": (replace(DISK, size_bytes=1000),)}, "LUN 1: size 1000"),
        ({"luns": (replace(DISK, size_bytes=(1 << 20) + 512),)}, "multiple of 4096"),
        ({"luns": (replace(DISK, scsi_id="lun-1"),)}, "'lun-1': 1 to 31 hexadecimal digits"),
        ({"luns": (replace(DISK, scsi_id="a" * 32),)}, "hexadecimal"),
        ({"luns": (replace(DISK, serial="SN,1"),)}, "serial 'SN,1'"),
        ({"luns": (replace(DISK, path=Path("/run/my disk")),)}, "no blanks or commas"),
        ({"accounts": (ChapAccount("al ice", "correct-horse"),)}, "CHAP name 'al ice'"),
        ({"accounts": (ChapAccount("alice", "short"),)}, "secret of alice: 12 characters"),
        ({"accounts": (ChapAccount("alice", "correct,horse"),)}, "secret of alice"),
        ({"accounts": (ALICE, replace(ALICE, secret="another-horse"))}, "two CHAP accounts"),
        ({"accounts": (ARRAY,)}, "mutual CHAP needs an account"),
        ({"accounts": (ALICE, ARRAY, replace(ARRAY, user="b"))}, "more than one account"),
    ],
)
def test_what_is_wrong_with_a_target_is_named(change, message):
    with pytest.raises(BadInput) as error:
        check_target(replace(TARGET, **change))
    assert message in str(error.value)
    for secret in ("correct", "battery", "horse", "short"):
        assert secret not in str(error.value)


@pytest.mark.parametrize(
    ("text", "address", "port", "spelled"),
    [
        ("10.0.0.1", "10.0.0.1", 3260, "10.0.0.1:3260"),
        ("10.0.0.1:3261", "10.0.0.1", 3261, "10.0.0.1:3261"),
        ("fd00:0:0::1", "fd00::1", 3260, "[fd00::1]:3260"),
        ("[FD00::1]", "fd00::1", 3260, "[fd00::1]:3260"),
        ("[fd00::1]:860", "fd00::1", 860, "[fd00::1]:860"),
    ],
)
def test_portals(text, address, port, spelled):
    assert Portal.parse(text) == Portal(address, port)
    assert str(Portal(address, port)) == spelled


@pytest.mark.parametrize(
    "text",
    [
        "",
        "p1",
        "10.0.0.300",
        "10.0.0.1:",
        "10.0.0.1:0",
        "10.0.0.1:99999",
        "[p1]:3260",
        "::1:x",
    ],
)
def test_what_is_no_portal(text):
    with pytest.raises(BadInput, match="not an IP address"):
        Portal.parse(text)


def test_answers_for_the_virtual_port(tmp_path):
    front = SteeredFront(Site(LocalRunner("a1"), tmp_path), tmp_path)
    front.steer("10.0.0.101", "10.0.0.12")
    front.steer("FD00::101", "fd00::12", permanent=True)
    front.steer("10.0.0.102", None)
    front.steer(None, "10.0.0.11:3260")
    written = {path.name: path.read_text() for path in front.steering.iterdir()}
    assert written == {
        "10.0.0.101": "10.0.0.12:3260:Temporary\n",
        "fd00::101": "[fd00::12]:3260:Permanent\n",
        "10.0.0.102": "here\n",
        "default": "10.0.0.11:3260:Temporary\n",
        "default6": "10.0.0.11:3260:Temporary\n",
    }


def test_the_front_goes_on_listening_after_a_host_that_is_gone(tmp_path):
    class Listener:
        accepted = 0

        def accept(self):
            self.accepted += 1
            raise (ConnectionAbortedError, RuntimeError, KeyboardInterrupt)[self.accepted - 1]

    listener = Listener()
    config = {"steering": str(tmp_path), "engine": "127.0.0.1:9"}
    service = Service({**config, "targets": [], "discovery": None})
    with pytest.raises(KeyboardInterrupt):
        service._accept(listener)
    assert listener.accepted == 3


def test_no_tgtd_is_told_with_its_package(monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(Missing, match="tgtd is not on PATH.*install tgt$") as error:
        Tgt(LocalRunner("a1"), tmp_path, tmp_path)
    assert error.value.exit_code == 3


@pytest.fixture
def tgtadm(monkeypatch, tmp_path):
    """A tgtadm that shows its arguments' number and fails."""
    program = tmp_path / "tgtadm"
    program.write_text('#!/bin/sh\necho "tgtadm: $# arguments, no" >&2\nexit 22\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return Tgtadm("a1", tmp_path, 3)


def test_a_refusal_shows_no_secret_anywhere(tgtadm, caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(CommandFailed) as error:
        tgtadm.new_account("alice", "correct-horse")
    seen: BaseException | None = error.value
    assert error.value.status == 22
    assert "--user=alice --password=*************` ended with status 22" in str(seen)
    assert "tgtadm: 6 arguments, no" in str(seen)
    while seen:
        assert "correct-horse" not in f"{seen!r} {vars(seen)}"
        seen = seen.__cause__ or seen.__context__
    assert "correct-horse" not in caplog.text
    assert "correct-horse" not in repr(ALICE)


def test_a_tgtd_that_hangs_is_given_up(tgtadm, tmp_path, monkeypatch):
    monkeypatch.setattr("targets.tgt.tgtadm._SECONDS", 0.2)
    (tmp_path / "tgtadm").write_text("#!/bin/sh\nsleep 5\n")
    with pytest.raises(CommandFailed, match="did not end in time") as error:
        Tgtadm("a1", tmp_path, 3)("portal", "show")
    assert error.value.status is None


def test_before_the_start_nothing_answers(tmp_path):
    engine: TargetEngine = Tgt(LocalRunner("a1"), tmp_path, tmp_path)
    with pytest.raises(LabError, match="a1: tgtd 1 does not run"):
        engine.expose("10.0.0.1")


def test_what_tgt_can_do(tmp_path):
    engine = Tgt(LocalRunner("a1"), tmp_path, tmp_path)
    assert isinstance(engine, KillableDaemon)
    assert isinstance(engine, RedirectsNatively)
    assert not isinstance(engine, OwnKernel)
