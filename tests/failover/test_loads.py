"""Loads of other kinds, and a loss that the load itself has covered up since."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("target", ["tgt", "lio"])
@pytest.mark.parametrize("name", ["deep-queue-takeover", "large-writes-takeover"])
def test_a_takeover_under_another_load(run_scenario, name, target):
    result = run_scenario(name, "--target", target)
    assert result["verdict"] == "pass", result["checks"]
    (lost,) = [c for c in result["checks"] if c["name"] == "no_lost_writes(h1)"]
    assert "each read back" in lost["evidence"]
    assert "in the LUN's file" in lost["evidence"]


def test_two_hosts_that_swap_the_same_blocks(run_scenario):
    result = run_scenario("shared-region-takeover", "--target", "lio")
    assert result["verdict"] == "pass", result["checks"]
    (agree,) = [c for c in result["checks"] if c["name"].startswith("swaps_agree")]
    assert "times another host was first" in agree["evidence"]


def test_a_loss_that_later_writes_cover_up_is_found(run_scenario):
    result = run_scenario("control-lost-write-under-way")
    failed = {c["name"] for c in result["checks"] if c["verdict"] == "fail"}
    assert (result["verdict"], failed) == ("fail", {"no_lost_writes(h1)"})
