"""What only a tgtd can get wrong."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest

from lab.errors import BadInput, CommandFailed, LabError
from lab.suite.contract import AUTHENTICATION_FAILURE, IQN, SERIAL, OnEngine, listening, serve
from lab.suite.net import PORTS
from targets.base import ChapAccount, TargetSpec
from targets.tgt.engine import Tgt
from targets.tgt.tgtadm import Tgtadm


class TestTgtAlone(OnEngine):
    engine_name = "tgt"

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
            patched.setattr("targets.tgt.engine.make_sparse", lambda _: None)
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

    def test_mutual_chap(self, engine, disk, host):
        accounts = (
            ChapAccount("alice", "correct-horse"),
            ChapAccount("array", "battery-staple", mutual=True),
        )
        serve(engine, replace(disk, accounts=accounts), PORTS[0])
        assert host(PORTS[0]).login(IQN, "alice", "correct-horse").status == 0
        assert host(PORTS[0]).login(IQN, "array", "battery-staple").status
        assert host(PORTS[0]).login(IQN).status == AUTHENTICATION_FAILURE

    def test_one_name_has_one_secret(self, engine, disk):
        engine.create(replace(disk, accounts=(ChapAccount("alice", "correct-horse"),)))
        other = TargetSpec(f"{IQN}2", disk.luns, (ChapAccount("alice", "another-horse"),))
        with pytest.raises(BadInput, match="alice has another secret"):
            engine.create(other)
