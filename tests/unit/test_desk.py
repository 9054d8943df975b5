"""The desk of a live lab: an order that goes wrong ends that order, not the lab."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from lab.errors import BadInput, LabError
from lab.run import desk
from lab.waiting import wait_for


@pytest.fixture
def up(tmp_path: Path):
    """A desk that takes orders in `tmp_path`."""

    def obey(order: dict) -> dict:
        if order["command"] == "bad":
            raise BadInput("no such port")
        if order["command"] == "bug":
            raise ValueError("not a number")
        return {"done": order["command"]}

    thread = threading.Thread(target=desk.serve, args=(tmp_path, obey))
    thread.start()
    wait_for("the desk", lambda: desk._is_up(tmp_path), seconds=5)
    yield tmp_path
    if thread.is_alive():
        desk.order(tmp_path, "down")
    thread.join(5)
    assert not thread.is_alive()


def test_an_order_and_its_answer(up):
    assert desk.order(up, "status") == {"done": "status"}
    with pytest.raises(BadInput, match="no such port"):
        desk.order(up, "bad")


def test_a_bug_in_an_order_does_not_end_the_lab(up):
    with pytest.raises(LabError, match="bug: ValueError: not a number; this is a bug of the lab"):
        desk.order(up, "bug")
    assert desk.order(up, "status") == {"done": "status"}
