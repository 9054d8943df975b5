"""Why an address moves: the cause that people read, and what happens with no port left."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planner_world import HOLD, HOSTS, World, desired
from test_planner_rules import settled

from lab.controller.model import (
    AddAddress,
    Address,
    AskToMove,
    Memory,
    NoPortLeft,
    Observed,
    RemoveAddress,
)
from lab.controller.planner import next_look, plan

VIRTUAL = "10.0.0.1"


def moves(world: World, address: str = VIRTUAL) -> list[tuple[str, str, str]]:
    """What was done with an address, and why; then forgotten."""
    done = [
        ("off" if isinstance(a, RemoveAddress) else "on", a.port, a.cause)
        for a in world.actions
        if isinstance(a, AddAddress | RemoveAddress) and a.address == address
    ]
    world.actions.clear()
    return done


def test_a_lost_carrier_then_the_end_of_the_hold_time():
    world = settled()
    world.links["p1"] = False
    world.converge()
    assert moves(world) == [("off", "p1", "carrier"), ("on", "p2", "carrier")]
    world.links["p1"] = True
    world.advance(HOLD)
    assert moves(world) == [("off", "p2", "hold"), ("on", "p1", "hold")]


def test_a_silent_port():
    world = settled()
    world.verdicts["p1"] = "silent"
    world.converge()
    assert moves(world) == [("off", "p1", "probe"), ("on", "p2", "probe")]


def test_an_order_also_to_a_port_that_was_back_long_before():
    world = settled()
    world.links["p2"] = False
    world.converge()
    world.links["p2"] = True
    world.advance(HOLD + 1)
    moves(world)
    world.desired = replace(world.desired, drained=frozenset({"p1"}))
    world.converge()
    assert moves(world) == [("off", "p1", "order"), ("on", "p2", "order")]


def test_an_order_to_a_port_that_is_well_again_at_this_moment():
    world = settled()
    world.verdicts["p2"] = "suspect"
    world.converge()
    world.actions.clear()
    world.verdicts["p2"] = "ok"
    world.desired = replace(world.desired, drained=frozenset({"p1"}))
    world.converge()
    assert moves(world) == [("off", "p1", "order"), ("on", "p2", "order")]


@pytest.mark.parametrize("owners", [{"p2"}, set()])
def test_what_somebody_moved_by_hand_is_a_repair(owners):
    world = settled()
    world.by_hand = True
    world.owners[VIRTUAL] = set(owners)
    world.converge()
    off = [("off", name, "repair") for name in owners]
    assert moves(world) == [*off, ("on", "p1", "repair")]


def test_the_first_plan_of_a_controller():
    world = World()
    world.owners[VIRTUAL] = set()
    world.step()
    # Its home held off: nobody knows how long it has been back.
    assert moves(world) == [("on", "p2", "start")]
    assert world.memory.ports["p1"].cause == world.memory.ports["p2"].cause == "start"


def test_a_dead_port_keeps_its_time_and_takes_the_newer_cause():
    world = settled()
    world.links["p1"] = False
    world.converge()
    since = world.memory.ports["p1"].since
    world.now += 3.0
    world.links["p1"], world.verdicts["p1"] = True, "silent"
    world.converge()
    port = world.memory.ports["p1"]
    assert (port.state, port.cause, port.since) == ("down", "probe", since)
    world.now += 1.0
    world.converge()
    assert world.memory.ports["p1"] == port


def test_a_port_that_stays_as_it_is_keeps_its_time_and_cause():
    world = settled()
    started = world.memory.ports["p2"]
    world.links["p1"] = False
    world.converge()
    world.links["p1"] = True
    world.advance(HOLD + 1)
    back = world.memory.ports["p1"]
    assert (back.state, back.cause) == ("up", "hold")
    world.now += 1.0
    world.converge()
    assert (world.memory.ports["p1"], world.memory.ports["p2"]) == (back, started)


def test_a_port_becomes_suspect_by_the_probes():
    world = settled()
    world.now += 1.0
    world.verdicts["p1"] = "suspect"
    world.converge()
    port = world.memory.ports["p1"]
    assert (port.state, port.cause, port.since) == ("suspect", "probe", world.now)


def test_no_port_left_is_said_once_each_time():
    world = settled()
    for _ in range(2):
        world.actions.clear()
        world.links = dict.fromkeys(world.links, False)
        world.converge()
        world.now += 1.0
        world.converge()
        assert [a for a in world.actions if isinstance(a, NoPortLeft)] == [NoPortLeft()]
        world.links = dict.fromkeys(world.links, True)
        world.advance(HOLD + 1)


def test_with_no_port_left_a_single_owner_keeps_its_address_wherever_it_is():
    world = settled()
    world.links = dict.fromkeys(world.links, False)
    world.converge()
    world.actions.clear()
    world.owners[VIRTUAL] = {"interface lo"}
    assert world.step()
    world.owners[VIRTUAL] = {"p1", "interface lo"}
    world.step()
    assert moves(world) == [("off", "interface lo", "repair")]


def test_with_no_port_left_nothing_is_added():
    world = settled()
    world.links = dict.fromkeys(world.links, False)
    world.converge()
    world.actions.clear()
    world.owners[VIRTUAL] = {"p2", "interface lo"}
    world.step()
    assert [kind for kind, _, _ in moves(world)] == ["off", "off"]


FOUR = ("p1", "p2", "p3", "p4")


def four(placed: str, owners: set[str], dead: set[str]):
    """One plan for one address with its home at p1, of four ports."""
    wanted = desired(ports=FOUR, addresses=(Address("10.0.0.11", "p1"),), initiators=())
    up = Observed(1.0, dict.fromkeys(FOUR, True), {"10.0.0.11": frozenset({"p1"})}, {}, {})
    memory, _ = plan(wanted, up, Memory())
    links = {name: name not in dead for name in FOUR}
    seen = Observed(2.0, links, {"10.0.0.11": frozenset(owners)}, {}, {})
    memory, actions = plan(wanted, seen, replace(memory, placed={"10.0.0.11": placed}))
    return memory.placed["10.0.0.11"], actions


def test_a_second_failure_goes_on_from_where_the_address_was():
    target, _ = four("p3", {"p3"}, {"p1", "p3"})
    assert target == "p4", "after p3, not after its home"


def test_the_first_failure_starts_at_home():
    target, _ = four("interface lo", {"interface lo"}, {"p1"})
    assert target == "p2"


def test_a_taken_over_address_is_put_back_where_the_controller_had_it():
    target, actions = four("p3", {"p2"}, {"p1"})
    assert target == "p3"
    assert [(type(a), a.port) for a in actions if not hasattr(a, "initiator")] == [
        (RemoveAddress, "p2"),
        (AddAddress, "p3"),
    ]


def test_of_several_owners_the_first_live_one_after_home_keeps_it():
    target, _ = four("interface lo", {"p4", "p3"}, {"p1"})
    assert target == "p3"


def test_after_a_restart_an_address_stays_at_the_last_port_too():
    world = World()
    world.links["p1"] = False
    world.owners["10.0.0.11"] = {"p3"}
    world.step()
    assert world.owners["10.0.0.11"] == {"p3"}


def test_after_a_restart_it_goes_on_from_the_dead_port_where_it_is():
    wanted = desired(ports=FOUR, addresses=(Address("10.0.0.11", "p1"),), initiators=())
    links = {"p1": False, "p2": True, "p3": False, "p4": True}
    seen = Observed(1.0, links, {"10.0.0.11": frozenset({"p3"})}, {}, {})
    memory, _ = plan(wanted, seen, Memory())
    assert memory.placed == {"10.0.0.11": "p4"}


def test_a_suspect_port_is_used_if_no_other_is_live():
    world = settled()
    world.verdicts["p1"] = "suspect"
    world.links["p2"] = world.links["p3"] = False
    world.converge()
    assert all(owners == {"p1"} for owners in world.owners.values())
    assert not [a for a in world.actions if isinstance(a, NoPortLeft)]


def test_a_drained_port_is_used_if_no_other_is_live():
    world = settled(drained=frozenset({"p1"}))
    world.links["p2"] = world.links["p3"] = False
    world.converge()
    assert all(owners == {"p1"} for owners in world.owners.values())
    assert not [a for a in world.actions if isinstance(a, NoPortLeft)]


def test_where_only_drained_ports_are_left_addresses_stay_at_the_first_one():
    world = settled(drained=frozenset({"p2", "p3"}))
    world.links["p1"] = False
    for _ in range(3):
        world.converge()
        assert world.owners["10.0.0.11"] == {"p2"}


def test_at_a_start_an_address_that_is_nowhere_goes_to_the_port_after_its_home():
    world = World()
    world.links["p2"] = False
    world.owners["10.0.0.12"] = set()
    world.step()
    assert world.owners["10.0.0.12"] == {"p3"}


def test_an_address_that_no_kernel_has_and_no_port_can_take_is_nowhere():
    world = World()
    world.links = dict.fromkeys(world.links, False)
    world.owners[VIRTUAL] = set()
    world.step()
    assert VIRTUAL not in world.memory.placed


def test_a_port_that_nobody_has_seen_yet_is_dead():
    world = settled()
    del world.links["p1"]
    world.converge()
    assert world.owners[VIRTUAL] == {"p2"}


def test_a_port_without_a_verdict_is_well():
    world = settled()
    before = world.observed()
    memory, _ = plan(world.desired, replace(before, verdicts={}), world.memory)
    assert {port.state for port in memory.ports.values()} == {"up"}


def test_it_looks_again_when_the_first_port_has_held_off():
    world = settled()
    world.links["p1"] = world.links["p2"] = False
    world.converge()
    world.links["p1"] = True
    world.converge()
    first = world.now
    world.now += 1.0
    world.links["p2"] = True
    world.converge()
    assert next_look(world.desired, world.memory) == first + HOLD


def test_it_looks_again_when_the_next_host_may_be_asked():
    world = settled(mode="redirect-only")
    for host in HOSTS[:3]:
        world.sessions[host, "10.0.0.11"] = 1
    world.desired = replace(world.desired, rebalances=1)
    world.converge()
    (ask,) = [a for a in world.actions if isinstance(a, AskToMove)]
    asked = world.now
    world.sessions = {(h, a): n for (h, a), n in world.sessions.items() if h != ask.initiator}
    world.sessions[ask.initiator, ask.to] = 1
    world.actions.clear()
    world.now += 0.01
    world.converge()
    assert next_look(world.desired, world.memory) == asked + world.desired.request_s


def test_redirect_only_a_port_that_holds_off_gets_its_own_address_back_if_it_is_all_there_is():
    world = settled(mode="redirect-only")
    world.links = dict.fromkeys(world.links, False)
    world.converge()
    world.owners["10.0.0.11"] = set()
    world.links["p1"] = True
    world.converge()
    assert world.memory.ports["p1"].state == "holding-off"
    assert world.owners["10.0.0.11"] == {"p1"}


def test_redirect_only_a_port_that_is_up_gets_its_own_address_back_though_it_is_drained():
    world = settled(mode="redirect-only", drained=frozenset({"p1"}))
    world.by_hand = True
    world.owners["10.0.0.11"] = set()
    world.converge()
    assert world.owners["10.0.0.11"] == {"p1"}
