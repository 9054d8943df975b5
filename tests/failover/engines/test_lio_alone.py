"""What only an engine with a kernel of its own can do, or get wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.errors import BadInput
from lab.suite.contract import AUTHENTICATION_FAILURE, DISK, IDENTITY, IQN, OnEngine, serve
from lab.suite.net import PORTS, booted
from targets.base import ChapAccount
from targets.lio.engine import STORES


class TestLioAlone(OnEngine):
    engine_name = "lio"

    def test_a_portal_may_precede_its_address(self, net, engine, disk, host):
        serve(engine, disk, "10.0.0.99")
        net.array.run(["ip", "address", "add", "10.0.0.99/24", "dev", "p1"])
        try:
            assert host("10.0.0.99").login(IQN).status == 0
        finally:
            net.array.run(["ip", "address", "del", "10.0.0.99/24", "dev", "p1"])

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
        engine = self.make(net, tmp_path, store)
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
