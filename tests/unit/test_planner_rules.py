"""The planner's rules one by one, as a person would check them."""

from __future__ import annotations

from dataclasses import replace

from planner_world import HOLD, HOSTS, World

from lab.controller.model import AskToMove, NoPortLeft

H1, H2, H3, H6 = HOSTS


def settled(**changes) -> World:
    world = World(**changes)
    world.converge()
    world.actions.clear()
    return world


def at(world: World, address: str) -> set[str]:
    return world.owners[address]


def states(world: World) -> list[str]:
    return [world.memory.ports[p].state for p in ("p1", "p2", "p3")]


def test_nothing_to_do_where_all_is_at_home():
    world = World()
    assert world.step()
    assert states(world) == ["up", "up", "up"]


def test_a_dead_ports_addresses_go_to_the_next_port():
    world = settled()
    world.links["p1"] = False
    world.converge()
    assert at(world, "10.0.0.1") == at(world, "10.0.0.11") == at(world, "fd00::1") == {"p2"}
    world.links["p3"] = False
    world.converge()
    assert at(world, "10.0.0.13") == {"p2"}


def test_takeover_is_cyclic_and_follows_a_second_failure():
    world = settled()
    world.links["p3"] = False
    world.converge()
    assert at(world, "10.0.0.13") == {"p1"}
    world.links["p1"] = False
    world.converge()
    assert at(world, "10.0.0.13") == at(world, "10.0.0.1") == {"p2"}


def test_what_was_taken_over_stays_until_the_hold_time_is_over():
    world = settled()
    world.links["p1"] = False
    world.converge()
    world.links["p1"] = True
    world.advance(HOLD - 0.1)
    assert at(world, "10.0.0.1") == {"p2"}
    assert states(world)[0] == "holding-off"
    world.advance(0.2)
    assert at(world, "10.0.0.1") == at(world, "10.0.0.11") == {"p1"}


def test_flapping_starts_the_hold_time_anew():
    world = settled()
    for _ in range(10):
        world.links["p1"] = False
        world.converge()
        world.links["p1"] = True
        world.advance(HOLD - 1)
        assert at(world, "10.0.0.1") == {"p2"}


def test_a_port_that_holds_off_is_used_if_nothing_else_is_live():
    world = settled()
    for port in ("p1", "p2", "p3"):
        world.links[port] = False
        world.converge()
    assert at(world, "10.0.0.1") == {"p3"}, "nothing is changed with no port left"
    assert [a for a in world.actions if isinstance(a, NoPortLeft)] == [NoPortLeft()]
    world.links["p2"] = True
    world.converge()
    assert states(world) == ["down", "holding-off", "down"]
    assert all(owners == {"p2"} for owners in world.owners.values())
    world.links["p1"] = True
    world.converge()
    assert at(world, "10.0.0.11") == {"p2"}
    world.advance(HOLD)
    assert at(world, "10.0.0.11") == {"p1"}


def test_a_suspect_port_keeps_what_it_has_and_gets_nothing():
    world = settled()
    world.verdicts["p2"] = "suspect"
    world.links["p1"] = False
    world.converge()
    assert at(world, "10.0.0.12") == {"p2"}
    assert at(world, "10.0.0.1") == {"p3"}


def test_redirect_only_takes_data_addresses_off_and_moves_the_virtual_one():
    world = settled(mode="redirect-only")
    world.links["p1"] = False
    world.converge()
    assert at(world, "10.0.0.1") == {"p2"}
    assert at(world, "10.0.0.11") == set()
    world.links["p1"] = True
    world.advance(HOLD - 0.1)
    assert at(world, "10.0.0.11") == set(), "back only when the port is up again"
    world.advance(0.2)
    assert at(world, "10.0.0.11") == {"p1"}


def test_redirect_only_leaves_the_address_of_a_suspect_or_drained_port():
    world = settled(mode="redirect-only", drained=frozenset({"p3"}))
    world.verdicts["p2"] = "suspect"
    world.converge()
    assert at(world, "10.0.0.12") == {"p2"}
    assert at(world, "10.0.0.13") == {"p3"}
    assert "10.0.0.13" not in world.memory.choices.values()


def test_a_restart_after_the_port_came_back_holds_off_from_then():
    world = settled()
    world.links["p1"] = False
    world.converge()
    world.links["p1"] = True
    world.crash()
    world.start()
    world.advance(HOLD - 0.1)
    assert at(world, "10.0.0.1") == {"p2"}
    world.advance(0.2)
    assert at(world, "10.0.0.1") == {"p1"}


def test_by_hand_moved_or_doubled_or_removed_it_is_put_right():
    world = settled()
    for owners in ({"p2"}, {"p1", "p2"}, {"p3", "interface dummy0"}, {"interface lo"}, set()):
        world.by_hand = True
        world.owners["10.0.0.1"] = set(owners)
        world.converge()
        assert at(world, "10.0.0.1") == {"p1"}


def test_drain_moves_addresses_and_redirects_and_undrain_brings_them_back():
    world = settled()
    world.desired = replace(world.desired, drained=frozenset({"p1"}))
    world.converge()
    assert at(world, "10.0.0.11") == at(world, "10.0.0.1") == {"p2"}
    assert "10.0.0.11" not in world.memory.choices.values()
    world.desired = replace(world.desired, drained=frozenset())
    world.converge()
    assert at(world, "10.0.0.11") == {"p1"}


def test_known_hosts_are_spread_before_anyone_logs_in():
    world = settled()
    choices = world.memory.choices
    assert [choices[h] for h in (H1, H2, H3)] == ["10.0.0.11", "10.0.0.12", "10.0.0.13"]
    assert choices[H6] == "fd00::11"
    assert choices["default"] == "10.0.0.12", "one each, and two at p1 with the IPv6 host"


def test_choices_do_not_wander():
    world = settled()
    before = dict(world.memory.choices)
    for host in (H3, H1, H2):
        world.sessions[host, before[host]] = 1
        world.converge()
        assert {h: world.memory.choices[h] for h in HOSTS} == {h: before[h] for h in HOSTS}
    world.sessions.clear()
    world.converge()
    assert {h: world.memory.choices[h] for h in HOSTS} == {h: before[h] for h in HOSTS}


def test_many_hosts_differ_by_at_most_one():
    hosts = tuple(f"10.0.0.{i}" for i in range(101, 109))
    world = settled(initiators=hosts)
    given = [world.memory.choices[h] for h in hosts]
    counts = [given.count(f"10.0.0.1{i}") for i in (1, 2, 3)]
    assert max(counts) - min(counts) <= 1


def test_a_host_where_it_is_after_a_restart():
    world = settled()
    world.sessions[H1, "10.0.0.13"] = 1
    world.crash()
    world.start()
    world.converge()
    assert world.memory.choices[H1] == "10.0.0.13"


def test_a_dead_ports_hosts_are_sent_elsewhere_and_back():
    world = settled()
    world.sessions[H3, "10.0.0.13"] = 1
    world.converge()
    world.links["p3"] = False
    world.converge()
    assert world.memory.choices[H3] in ("10.0.0.11", "10.0.0.12")
    world.links["p3"] = True
    world.advance(HOLD)
    assert world.memory.choices[H3] == "10.0.0.13", "its session came back with the address"


def test_fixed_none_and_served():
    world = settled(redirect="fixed", fixed={H1: "p3", H2: "p2"}, serve=frozenset({H2}))
    assert world.memory.choices[H1] == "10.0.0.13"
    assert world.memory.choices[H2] is None
    world.links["p3"] = False
    world.converge()
    assert world.memory.choices[H1] in ("10.0.0.11", "10.0.0.12")
    assert set(settled(redirect="none").memory.choices.values()) == {None}


def test_rebalance_asks_one_host_at_a_time():
    hosts = tuple(f"10.0.0.{i}" for i in range(101, 107))
    world = settled(initiators=hosts, mode="redirect-only")
    world.links["p3"] = False
    world.converge()
    for number, host in enumerate(hosts):
        world.sessions[host, f"10.0.0.1{1 + number % 2}"] = 1
    world.converge()
    world.links["p3"] = True
    world.converge()
    asked = []
    for _ in range(40):
        world.advance(0.5)
        new = [a for a in world.actions if isinstance(a, AskToMove)]
        world.actions.clear()
        assert len(new) <= 1
        for ask in new:
            asked.append((world.now, ask))
            assert world.memory.choices[ask.initiator] == ask.to
            del world.sessions[ask.initiator, ask.source]
            world.sessions[ask.initiator, ask.to] = 1
    assert [ask.to for _, ask in asked] == ["10.0.0.13"] * 2
    assert asked[1][0] - asked[0][0] >= world.desired.request_s
    load = [sum(a == f"10.0.0.1{i}" for _, a in world.sessions) for i in (1, 2, 3)]
    assert load == [2, 2, 2]


def test_a_second_port_that_comes_back_does_not_hurry_the_host_on_its_way():
    world = settled(mode="redirect-only", initiators=(H1, H2, H3))
    world.links["p2"] = world.links["p3"] = False
    world.converge()
    for host in (H1, H2, H3):
        world.sessions[host, "10.0.0.11"] = 1
    world.links["p2"] = True
    world.advance(0.01)
    world.links["p3"] = True
    world.actions.clear()
    world.advance(HOLD)
    (ask,) = [a for a in world.actions if isinstance(a, AskToMove)]
    del world.sessions[ask.initiator, ask.source]  # it has logged out, and is not back yet
    world.advance(world.desired.request_s + 1.0)
    assert [a for a in world.actions if isinstance(a, AskToMove)] == [ask]
    assert world.memory.choices[ask.initiator] == ask.to
    world.sessions[ask.initiator, ask.to] = 1
    world.advance(1.0)
    assert len([a for a in world.actions if isinstance(a, AskToMove)]) == 2


def test_an_order_that_comes_before_the_host_is_seen_at_its_new_port_is_not_lost():
    world = settled(mode="redirect-only", redirect="fixed", fixed={H1: "p1"}, initiators=(H1,))
    world.sessions[H1, "10.0.0.11"] = 1
    world.desired = replace(world.desired, drained=frozenset({"p1"}), rebalances=1)
    world.converge()
    (there,) = [a for a in world.actions if isinstance(a, AskToMove)]
    del world.sessions[H1, "10.0.0.11"]
    world.advance(world.desired.request_s + 1.0)
    world.desired = replace(world.desired, drained=frozenset(), rebalances=2)
    world.converge()
    world.sessions[H1, there.to] = 1
    world.actions.clear()
    world.advance(1.0)
    (back,) = [a for a in world.actions if isinstance(a, AskToMove)]
    assert (back.source, back.to) == (there.to, "10.0.0.11")


def test_a_host_that_does_not_move_is_not_asked_again():
    world = settled(mode="redirect-only")
    for host in (H1, H2):
        world.sessions[host, "10.0.0.11"] = 1
    world.desired = replace(world.desired, rebalances=1)
    world.converge()
    world.advance(100.0)
    asked = [a.initiator for a in world.actions if isinstance(a, AskToMove)]
    assert sorted(asked) == sorted(set(asked))
    assert not world.memory.rebalancing


def test_draining_in_redirect_only_asks_its_hosts_to_leave():
    world = settled(mode="redirect-only")
    world.sessions[H1, "10.0.0.11"] = 1
    world.desired = replace(world.desired, drained=frozenset({"p1"}), rebalances=1)
    world.converge()
    asks = [a for a in world.actions if isinstance(a, AskToMove)]
    assert [a.source for a in asks] == ["10.0.0.11"]
    assert asks[0].to in ("10.0.0.12", "10.0.0.13")
