"""Our engines keep the contract that every target engine keeps (lab/suite/contract.py)."""

from lab.suite.contract import EngineContract


class TestTgt(EngineContract):
    engine_name = "tgt"


class TestLio(EngineContract):
    engine_name = "lio"
