"""Negative controls: labs that are broken on purpose. Their verdict must be fail.

They run by name (`lab run control-no-controller`) and are not listed. They show that the suite does
not pass a broken array.
"""

from __future__ import annotations

from collections.abc import Iterable

from lab.array.policy import Policy
from lab.checks import Check, same_connection
from lab.faults.network import address_claimed, block_overwritten, cable_pulled, second_owner
from lab.run.lab import Lab
from lab.run.scenario import scenario
from lab.scenarios.promises import TAKEOVER_BUDGET_MS, under_load, undisturbed


@scenario(policy=Policy(controller=False), listed=False)
def control_no_controller(lab: Lab) -> Iterable[Check]:
    """port-takeover with the controller switched off: nobody moves the address."""
    h1 = under_load(lab)
    address = h1.address
    pulled = lab.begin(cable_pulled(lab, lab.array.port_of(address)))
    lab.observe_for(4 * TAKEOVER_BUDGET_MS / 1000)
    lab.end(pulled)
    h1.keeps_writing()
    h1.stop_and_verify()
    return [same_connection(h1.name), *undisturbed(h1.name, TAKEOVER_BUDGET_MS)]


@scenario(listed=False)
def control_lost_write(lab: Lab) -> Iterable[Check]:
    """An acknowledged block is overwritten, unknown to the writer."""
    h1 = under_load(lab)
    h1.stop_writing()
    lab.begin(block_overwritten(lab, h1.writer.acknowledged_blocks()[0]))
    h1.verify()
    return undisturbed(h1.name, TAKEOVER_BUDGET_MS)


@scenario(listed=False)
def control_lost_write_under_way(lab: Lab) -> Iterable[Check]:
    """Acknowledged blocks are overwritten under load; all are written again many times after."""
    h1 = under_load(lab)
    for block in h1.writer.acknowledged_blocks()[:3]:
        lab.begin(block_overwritten(lab, block))
    h1.keeps_writing(600)
    h1.stop_and_verify()
    return undisturbed(h1.name, TAKEOVER_BUDGET_MS)


@scenario(ports=2, listed=False)
def control_two_owners(lab: Lab) -> Iterable[Check]:
    """A second port gets the virtual address as well."""
    h1 = under_load(lab)
    other = lab.array.spec.ports[1].name
    lab.begin(second_owner(lab, lab.array.virtual, other))
    h1.keeps_writing()
    h1.stop_and_verify()
    return undisturbed(h1.name, TAKEOVER_BUDGET_MS)


@scenario(ports=2, listed=False)
def control_false_claim(lab: Lab) -> Iterable[Check]:
    """A port answers for the virtual address, which another port has."""
    h1 = under_load(lab)
    other = lab.array.spec.ports[1].name
    lab.begin(address_claimed(lab, lab.array.virtual, other))
    h1.keeps_writing()
    h1.stop_and_verify()
    return undisturbed(h1.name, TAKEOVER_BUDGET_MS)
