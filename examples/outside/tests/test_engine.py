"""The engine keeps the contract of all engines, and does what only it does."""

from lab.suite.contract import IQN, EngineContract, serve
from lab.suite.net import PORTS


class TestSolicitedTgt(EngineContract):
    engine_name = "tgt-solicited"

    def test_it_takes_no_data_with_the_command(self, engine, disk, host):
        serve(engine, disk, PORTS[0])
        assert host(PORTS[0]).login(IQN).keys["ImmediateData"] == "No"
