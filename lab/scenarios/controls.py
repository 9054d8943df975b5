"""Negative controls: labs that are broken on purpose. Their verdict must not be pass.

They run by name (`lab run control-no-controller`) and are not listed. `lab selftest` runs them all,
and shows that the checks find what is broken, and nothing else. This file has those of addresses
and of the controller; others are in the files beside it.
"""

from __future__ import annotations

from collections.abc import Iterable

from lab.array.policy import Policy
from lab.checks import (
    Check,
    controller_restarted,
    frames_dropped,
    front_restarted,
    moved_to,
    one_owner_of_virtual_address,
    same_connection,
)
from lab.faults import network as faults
from lab.run.control import fails
from lab.run.lab import Lab
from lab.run.scenario import scenario
from lab.scenarios.controls_hosts import away_from_home
from lab.scenarios.ports import LOSSY_BUDGET_MS, LOST_S, REPEATED_BUDGET_MS, failback, unheard
from lab.scenarios.promises import TAKEOVER_BUDGET_MS, at_home, under_load, undisturbed
from lab.waiting import wait_for


@scenario(policy=Policy(controller=False), control=fails("stall_below"))
def control_no_controller(lab: Lab) -> Iterable[Check]:
    """port-takeover with the controller switched off: nobody moves the address."""
    h1 = under_load(lab)
    address = h1.address
    pulled = lab.begin(faults.cable_pulled(lab, lab.array.port_of(address)))
    lab.observe_for(4 * TAKEOVER_BUDGET_MS / 1000)
    lab.end(pulled)
    h1.keeps_writing()
    h1.stop_and_verify()
    return [same_connection(h1.name), *undisturbed(h1.name, TAKEOVER_BUDGET_MS)]


@scenario(policy=Policy(controller=False), control=fails("reached"))
def control_never_reached(lab: Lab) -> Iterable[Check]:
    """port-takeover with the controller switched off: the host's writes never go on."""
    h1 = under_load(lab)
    lab.begin(faults.cable_pulled(lab, lab.array.port_of(h1.address)))
    h1.keeps_writing(seconds=2 * TAKEOVER_BUDGET_MS / 1000)
    h1.stop_and_verify()
    return undisturbed(h1.name, TAKEOVER_BUDGET_MS)


@scenario(control=fails("no_lost_writes", quick=True))
def control_lost_write(lab: Lab) -> Iterable[Check]:
    """An acknowledged block is overwritten, unknown to the writer."""
    h1 = under_load(lab)
    h1.stop_writing()
    lab.begin(faults.block_overwritten(lab, h1.writer.acknowledged_blocks()[0]))
    h1.verify()
    return undisturbed(h1.name, TAKEOVER_BUDGET_MS)


@scenario(control=fails("no_lost_writes"))
def control_lost_write_under_way(lab: Lab) -> Iterable[Check]:
    """Acknowledged blocks are overwritten under load; all are written again many times after."""
    h1 = under_load(lab)
    for block in h1.writer.acknowledged_blocks()[:3]:
        lab.begin(faults.block_overwritten(lab, block))
    h1.keeps_writing(600)
    h1.stop_and_verify()
    return undisturbed(h1.name, TAKEOVER_BUDGET_MS)


@scenario(ports=2, control=fails("one_owner_of_virtual_address", quick=True))
def control_two_owners(lab: Lab) -> Iterable[Check]:
    """A second port gets the virtual address as well."""
    h1 = under_load(lab)
    other = lab.array.spec.ports[1].name
    lab.begin(faults.second_owner(lab, lab.array.virtual, other))
    h1.keeps_writing()
    h1.stop_and_verify()
    return undisturbed(h1.name, TAKEOVER_BUDGET_MS)


@scenario(ports=2, control=fails("one_owner_of_virtual_address"))
def control_false_claim(lab: Lab) -> Iterable[Check]:
    """A port answers for the virtual address, which another port has."""
    h1 = under_load(lab)
    other = lab.array.spec.ports[1].name
    lab.begin(faults.address_claimed(lab, lab.array.virtual, other))
    h1.keeps_writing()
    h1.stop_and_verify()
    return undisturbed(h1.name, TAKEOVER_BUDGET_MS)


@scenario(ports=2, policy=away_from_home(), control=fails("moved_to"))
def control_not_moved(lab: Lab) -> Iterable[Check]:
    """virtual-port-reassignment without a controller: its address stays at the dead port."""
    h1, home = under_load(lab), lab.array.spec.home.name
    lab.begin(faults.cable_pulled(lab, home))
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        moved_to(lab.array.virtual, away_from=home),
        *undisturbed(h1.name, TAKEOVER_BUDGET_MS),
    ]


@scenario(ports=2, policy=at_home(hold_s=0.1), control=fails("home_after_hold"))
def control_home_too_early(lab: Lab) -> Iterable[Check]:
    """failback with a hold time of 0.1 s: the addresses are back too early."""
    return failback(lab)


@scenario(hosts=2, ports=2, policy=at_home(), control=fails("unannounced"))
def control_announced(lab: Lab) -> Iterable[Check]:
    """lost-announcement with announcements that are lost at another host only."""
    return unheard(lab, LOST_S, REPEATED_BUDGET_MS, lab.host(1).name)


@scenario(
    ports=2,
    policy=at_home(),
    not_for={"libiscsi": "netem needs a host with a kernel of its own"},
    control=fails("frames_dropped", quick=True),
)
def control_nothing_lost(lab: Lab) -> Iterable[Check]:
    """lossy-port with a cable that delays frames and loses none."""
    h1 = under_load(lab)
    lossy = lab.begin(faults.cable_lossy(lab, h1.name, netem="delay 1ms"))
    h1.keeps_writing()
    lab.end(lossy)
    h1.stop_and_verify()
    return [
        frames_dropped(h1.name),
        same_connection(h1.name),
        *undisturbed(h1.name, LOSSY_BUDGET_MS),
    ]


def _spoil(lab: Lab, path: str) -> None:
    """Overwrite a file that the array's processes are started from."""
    script = 'for folder in "$1" /run/array; do [ ! -e "$folder/$2" ] || echo > "$folder/$2"; done'
    lab.array.runner.run(["sh", "-c", script, "spoil", str(lab.folder.work), path])


def _is_dead(lab: Lab, kind: str) -> None:
    wait_for(
        f"{kind} to die, and not to come back",
        lambda: [e["what"] for e in lab.timeline.events(kind)],
        until=lambda said: "died" in said,
        seconds=10.0,
    )
    lab.observe_for(1.0)


@scenario(control=fails("controller_restarted", quick=True))
def control_controller_lost(lab: Lab) -> Iterable[Check]:
    """The controller is killed, and its configuration is unreadable: it does not come back."""
    h1 = under_load(lab)
    _spoil(lab, "controller.json")
    lab.begin(faults.controller_killed(lab))
    _is_dead(lab, "controller")
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        controller_restarted(1),
        one_owner_of_virtual_address(),
        same_connection(h1.name),
        *undisturbed(h1.name, TAKEOVER_BUDGET_MS),
    ]


@scenario(policy=Policy(front="steered"), control=fails("front_restarted"))
def control_front_lost(lab: Lab) -> Iterable[Check]:
    """The front is killed, and its configuration is unreadable: it does not come back."""
    h1 = under_load(lab)
    _spoil(lab, "virtual-port/config.json")
    lab.begin(faults.front_killed(lab))
    _is_dead(lab, "virtual-port")
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        front_restarted(),
        same_connection(h1.name),
        *undisturbed(h1.name, TAKEOVER_BUDGET_MS),
    ]
