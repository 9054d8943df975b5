"""A lab that stays up and is told what to do from another terminal."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from lab.suite.plugin import LAB
from lab.waiting import wait_for


@pytest.fixture
def up(lab_command, tmp_path):
    """A lab that is up in tmp_path/runs, its process, and `order`, which runs an order there."""
    started = subprocess.Popen(
        [str(LAB), "up", "--json"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )

    def order(*words: str):
        return lab_command(*words, cwd=tmp_path)

    try:
        wait_for(
            "the lab to be up",
            lambda: order("status").status == 0 or started.poll() is not None,
            seconds=60,
        )
        yield started, order
    finally:
        if started.poll() is None:
            started.send_signal(signal.SIGINT)
        started.communicate(timeout=30)


def told(ran) -> dict:
    assert ran.status == 0, ran.err
    return json.loads(ran.out)


def test_orders_are_followed_and_the_lab_is_judged(up, tmp_path):
    started, order = up
    at_first = told(order("status", "--json"))
    (served,) = at_first["hosts"]["h1"]
    port = at_first["addresses"][served][0]
    assert told(order("move-vip", "p2", "--json"))["addresses"]["10.0.0.1"] == ["p2"]

    order("pull", port)
    moved = wait_for(
        "the address to move",
        lambda: told(order("status", "--json")),
        until=lambda now: now["addresses"][served] not in ([port], []),
        seconds=10,
    )
    assert moved["pulled"] == [port]
    assert moved["hosts"]["h1"] != at_first["hosts"]["h1"]
    assert moved["writes"] > at_first["writes"]
    for words, said in (
        (("pull", port), "is out already"),
        (("plug", "p7"), f"those that are: {port}"),
        (("pull", "p7"), "there are p1, p2, p3, h1, h2"),
        (("drain", "p7"), "'p7' is not one of p1, p2, p3"),
        (("move-vip", port), "cannot take the virtual address"),
    ):
        refused = order(*words)
        assert (refused.status, refused.out) == (2, "")
        assert said in refused.err
    order("plug", port)
    assert order("down").status == 0
    out, _ = started.communicate(timeout=60)
    (result,) = json.loads(out)
    assert (result["verdict"], started.returncode) == ("pass", 0), result["checks"]
    assert result["measures"]["lost_writes"] == 0
    refused = order("status")
    assert (refused.status, "no lab is up" in refused.err) == (2, True)
    assert not [*tmp_path.glob("runs/*/orders")]


def test_interrupt_ends_it(up, tmp_path):
    started, order = up
    (socket,) = tmp_path.glob("runs/*/orders")
    assert oct(socket.stat().st_mode & 0o777) == "0o600"  # nobody else may give orders
    started.send_signal(signal.SIGINT)
    started.communicate(timeout=20)
    assert started.returncode == 130
    assert order("status").status == 2
    assert not [*tmp_path.glob("runs/*/orders")]
