"""Networks and controllers that end with the test that made them."""

import pytest
from controller_net import Controller, Net


@pytest.fixture
def net_of(tmp_path):
    made = []

    def make(**settings):
        made.append(Net(tmp_path, **settings))
        return made[-1]

    yield make
    for net in made:
        net.close()


@pytest.fixture
def control():
    made = []

    def start(net, settled=True, **env):
        made.append(Controller(net, **env))
        if settled:
            made[-1].until("settled")
        return made[-1]

    yield start
    for controller in made:
        if not controller.ended():
            controller.end()
