"""Whatever happens in whatever order: what must hold of the planner at every step."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from planner_world import ADDRESSES, HOSTS, PORTS, World

from lab.controller.model import AddAddress, RemoveAddress
from lab.controller.planner import plan

ports = st.sampled_from(PORTS)
addresses = st.sampled_from([a.address for a in ADDRESSES])
steps = {"taken": 0}


class Array(RuleBasedStateMachine):
    """Port events, crashes at any action, restarts, orders, changes by hand."""

    planner = staticmethod(plan)

    @initialize(
        mode=st.sampled_from(["takeover", "takeover", "redirect-only"]),
        redirect=st.sampled_from(["spread", "fixed", "none"]),
        serve=st.sampled_from([frozenset(), frozenset(HOSTS[:1])]),
    )
    def begin(self, mode, redirect, serve):
        fixed = {HOSTS[1]: "p2"}
        self.world = World(self.planner, mode=mode, redirect=redirect, fixed=fixed, serve=serve)
        self.world.converge()

    def teardown(self):
        if hasattr(self, "world"):
            self.world.start()
            self.world.converge()
            self.world.links = dict.fromkeys(PORTS, True)
            self.world.verdicts = dict.fromkeys(PORTS, "ok")
            self.world.converge()
            self.world.advance(100.0)
            for address in self.world.desired.addresses:
                if address.home not in self.world.desired.drained:
                    at = self.world.owners[address.address]
                    assert at == {address.home}, f"all is well, but {address} is at {at}"

    def after(self):
        steps["taken"] += 1
        self.world.converge()

    @rule(port=ports)
    def link_down(self, port):
        self.world.links[port] = False
        self.after()

    @rule(port=ports)
    def link_up(self, port):
        self.world.links[port] = True
        self.after()

    @rule(port=ports, verdict=st.sampled_from(["ok", "suspect", "silent"]))
    def probes_say(self, port, verdict):
        self.world.verdicts[port] = verdict
        self.after()

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0, 5.0, 20.0]))
    def time_passes(self, seconds):
        steps["taken"] += 1
        self.world.advance(seconds)

    @rule(down=st.sets(ports), die_after=st.integers(0, 12), then_up=st.sets(ports))
    def killed_in_the_middle(self, down, die_after, then_up):
        """Ports go, the controller dies as it acts on it, ports return, it starts again."""
        world = self.world
        for port in down:
            world.links[port] = False
        world.step(die_after)
        for port in then_up:
            world.links[port] = True
        world.start()
        self.after()

    @rule()
    def killed(self):
        self.world.crash()
        self.after()

    @rule()
    def started(self):
        self.world.start()
        self.after()

    @rule(address=addresses, owner=st.sampled_from([*PORTS, "interface dummy0"]))
    def added_by_hand(self, address, owner):
        self.world.by_hand = True
        self.world.owners[address].add(owner)
        self.after()

    @rule(address=addresses)
    def removed_by_hand(self, address):
        self.world.by_hand = True
        self.world.owners[address].clear()
        self.after()

    @rule(initiator=st.sampled_from(HOSTS))
    def logs_in(self, initiator):
        """Where it is told to, if that address is somewhere."""
        world = self.world
        choice = world.memory.choices.get(initiator) if world.memory else None
        if choice and world.owners[choice]:
            world.sessions[initiator, choice] = 1
        self.after()

    @rule(initiator=st.sampled_from(HOSTS))
    def logs_out(self, initiator):
        kept = {k: v for k, v in self.world.sessions.items() if k[0] != initiator}
        self.world.sessions = kept
        self.after()

    @rule(port=ports, drained=st.booleans())
    def order_drain(self, port, drained):
        now = self.world.desired.drained
        changed = now | {port} if drained else now - {port}
        self.world.desired = replace(self.world.desired, drained=changed)
        self.after()

    @rule(port=ports)
    def order_move_vip(self, port):
        moved = tuple(
            replace(a, home=port) if a.virtual else a for a in self.world.desired.addresses
        )
        self.world.desired = replace(self.world.desired, addresses=moved)
        self.after()

    @rule()
    def order_rebalance(self):
        world = self.world
        world.desired = replace(world.desired, rebalances=world.desired.rebalances + 1)
        self.after()


def check(planner, examples, phases=(Phase.generate, Phase.shrink)):
    machine = type("Array", (Array,), {"planner": staticmethod(planner)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=60,
            deadline=None,
            database=None,
            derandomize=True,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_whatever_happens():
    steps["taken"] = 0
    begun = time.monotonic()
    check(plan, 400)
    took = time.monotonic() - begun
    print(f"\n{steps['taken']} steps in {took:.1f} s")
    assert steps["taken"] >= 10_000
    assert took < 60


def adds_before_it_removes(desired, observed, memory):
    memory, actions = plan(desired, observed, memory)
    return memory, sorted(actions, key=lambda a: isinstance(a, RemoveAddress))


def ignores_the_hold_time(desired, observed, memory):
    return plan(replace(desired, hold_s=0.0), observed, memory)


def leaves_data_addresses_on_a_dead_port(desired, observed, memory):
    memory, actions = plan(desired, observed, memory)
    left = {a.address for a in desired.addresses if not a.virtual}
    moves = AddAddress | RemoveAddress

    def forgotten(action):
        dead = isinstance(action, moves) and action.cause in ("carrier", "probe")
        return dead and action.address in left

    return memory, [a for a in actions if not forgotten(a)]


@pytest.mark.parametrize(
    ("bug", "complaint"),
    [
        (adds_before_it_removes, "has two owners"),
        (ignores_the_hold_time, "within the hold time"),
        (leaves_data_addresses_on_a_dead_port, "left on a dead port"),
    ],
)
def test_a_seeded_bug_is_found(bug, complaint):
    with pytest.raises(AssertionError, match=complaint):
        check(bug, 400, phases=(Phase.generate,))


def test_an_order_after_a_restart_that_forgot_the_return():
    """Found by the machine above: a port that came back while nobody watched is as good as any."""
    state = Array()
    state.begin(mode="takeover", redirect="spread", serve=frozenset())
    state.killed_in_the_middle(die_after=0, down={"p2"}, then_up={"p1", "p2"})
    state.order_move_vip(port="p2")
    state.teardown()
