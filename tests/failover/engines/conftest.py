"""An engine to test, a disk for it, and hosts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from contract import ENGINES, IN_A_GUEST, IQN, lun
from net import HOSTS, Net, guest_network, initiator_name, network
from wire import Initiator

from targets.base import TargetEngine, TargetSpec


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
