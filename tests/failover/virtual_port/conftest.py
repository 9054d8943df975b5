"""An array with a virtual port in front of it, and hosts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from at_virtual import IQN, SECRET_IQN

from lab.array.site import Site
from lab.suite.net import HOSTS, PORT6, PORTS, VIRTUAL, VIRTUAL6, Net, initiator_name, network
from lab.suite.wire import Initiator
from targets.base import LogicalUnit, TargetSpec
from targets.front.steered import SteeredFront
from targets.tgt.engine import Tgt


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with network() as made:
        yield made


@pytest.fixture
def array(net, tmp_path) -> Iterator[tuple[Tgt, SteeredFront, list[dict]]]:
    events: list[dict] = []
    engine = Tgt(net.array, tmp_path / "work", tmp_path / "logs")
    front = SteeredFront(
        Site(net.array, tmp_path / "work"), tmp_path / "logs", on_event=events.append
    )
    disk = LogicalUnit(1, tmp_path / "disk1", 16 << 20, "a1000001", "SN0001")
    other = LogicalUnit(1, tmp_path / "disk2", 16 << 20, "a1000002", "SN0002")
    targets = [
        TargetSpec(IQN, (disk,)),
        TargetSpec(SECRET_IQN, (other,), initiators=("iqn.2024-01.lab.h9:host",)),
    ]
    try:
        engine.start()
        for target in targets:
            engine.create(target)
        for port in (*PORTS, PORT6):
            engine.expose(port)
        front.start([VIRTUAL, VIRTUAL6], targets, engine.local_portal)
        yield engine, front, events
    finally:
        front.stop()
        engine.stop()


@pytest.fixture
def front(array) -> SteeredFront:
    return array[1]


@pytest.fixture
def host(net) -> Iterator[Callable[..., Initiator]]:
    opened: list[Initiator] = []

    def connect(portal: str = VIRTUAL, source: str = HOSTS[0], name: str = "") -> Initiator:
        opened.append(Initiator(net.hosts_pid, source, name or initiator_name(source)))
        return opened[-1].connect(portal)

    yield connect
    for initiator in opened:
        initiator.close()
