"""Port failures other than one clean cable pull: silent, flapping, lossy, all at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from lab.array.policy import Policy
from lab.checks import (
    Check,
    frames_dropped,
    home_after_hold,
    kernel_quiet,
    moved_times,
    moved_to,
    new_login,
    no_lost_writes,
    one_owner_of_virtual_address,
    reached,
    recovered_after_errors,
    same_connection,
    session_survived,
    unannounced,
)
from lab.checks.address import owners_at
from lab.faults.network import (
    announcements_lost,
    cable_lossy,
    cable_pulled,
    port_deaf_or_mute,
    port_silenced,
)
from lab.host.host import LabHost
from lab.run.control import fails
from lab.run.lab import Lab
from lab.run.scenario import scenario
from lab.scenarios.promises import (
    RELOGIN_BUDGET_MS,
    TAKEOVER_BUDGET_MS,
    at_home,
    lose_port,
    under_load,
    undisturbed,
)
from lab.waiting import wait_for

HOLD_S = 2.0
FLAPPED = "the port stays up"
DOWN_S = 5.0
"""Seconds that all ports are down: more than NOP-Out interval and timeout, set to 1 s."""
NOTICED_S = 30.0
"""Limit in seconds for a host to notice that its ports are lost; usually it takes 2 to 5 s."""
REPLACEMENT_S = 3
"""node.session.timeo.replacement_timeout in seconds, if the ports are to stay away longer."""
LOSSY_BUDGET_MS = 4000.0
"""For a move on a lossy path: some retransmission timeouts, each twice the one before."""
LOST_S = 0.4
"""Seconds for which announcements are lost; two more follow (Announcer, REPEAT_S)."""
REPEATED_BUDGET_MS = 3000.0
"""Until the last announcement, which every neighbour entry accepts, and TCP's next try."""
UNANNOUNCED_BUDGET_MS = 80_000.0
"""Until the host resolves the address again, and a login: its entry is valid for up to 45 s, waits
5 s and probes for 3 s (arp(7): base_reachable_time, delay_first_probe_time, mcast_solicit)."""


def _home(lab: Lab) -> str:
    """The home port of the virtual address, which serves the first host as well (at_home)."""
    return lab.array.spec.home.name


def _wait_until_on(lab: Lab, address: str, port: str) -> None:
    wait_for(
        f"{address} to move to {port}",
        lambda: owners_at(lab.timeline, address),
        until=lambda owners: owners == {port},
        seconds=10.0,
        every=0.002,
    )


def _silent(lab: Lab, fault: AbstractContextManager[None]) -> list[Check]:
    """The port that serves a host and has the virtual address goes silent under load."""
    h1, home = under_load(lab), _home(lab)
    lab.begin(fault)
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        moved_to(lab.array.virtual, away_from=home),
        moved_to(lab.array.address_of(home), away_from=home),
        same_connection(h1.name),
        *undisturbed(h1.name, TAKEOVER_BUDGET_MS),
    ]


@scenario(ports=2, policy=at_home())
def silent_port(lab: Lab) -> Iterable[Check]:
    """The switch drops all frames of a port, whose carrier stays up: its addresses move."""
    return _silent(lab, port_silenced(lab, _home(lab)))


@scenario(ports=2, policy=at_home())
def mute_port(lab: Lab) -> Iterable[Check]:
    """The switch drops all frames from a port, but none to it: its addresses move."""
    return _silent(lab, port_deaf_or_mute(lab, _home(lab), "from"))


@scenario(ports=2, policy=at_home())
def deaf_port(lab: Lab) -> Iterable[Check]:
    """The switch drops all frames to a port, but none from it: its addresses move."""
    return _silent(lab, port_deaf_or_mute(lab, _home(lab), "to"))


@scenario(
    ports=2,
    policy=at_home(probe=None),
    control=fails("moved_to", along={"stall_below": "its host waits for the silent port"}),
)
def control_no_probes(lab: Lab) -> Iterable[Check]:
    """silent-port with a controller that only watches carriers: nobody moves the addresses."""
    h1, home = under_load(lab), _home(lab)
    silent = lab.begin(port_silenced(lab, home))
    lab.observe_for(2 * TAKEOVER_BUDGET_MS / 1000)
    lab.end(silent)
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        moved_to(lab.array.address_of(home), away_from=home),
        *undisturbed(h1.name, TAKEOVER_BUDGET_MS),
    ]


@scenario(ports=3, policy=at_home())
def second_failure(lab: Lab) -> Iterable[Check]:
    """A port dies. The port that took over dies too, while the host still recovers."""
    h1 = under_load(lab)
    home, second, third = (port.name for port in lab.array.spec.ports[:3])
    address = lab.array.address_of(home)
    lab.begin(cable_pulled(lab, home))
    _wait_until_on(lab, address, second)
    lose_port(lab, second, h1)
    h1.stop_and_verify()
    return [
        moved_to(address, third),
        moved_to(lab.array.virtual, third),
        same_connection(h1.name),
        *undisturbed(h1.name, TAKEOVER_BUDGET_MS),
    ]


def _lose_all_ports(
    lab: Lab, replacement_s: int, noticed: str, has_noticed: Callable[[LabHost], bool]
) -> tuple[LabHost, float]:
    """All ports are down under load, for DOWN_S and until the host `has_noticed`.

    Returns the host, and for how many seconds the ports were down.
    """
    h1 = lab.host()
    h1.open_iscsi.configure("node.session.timeo.replacement_timeout", str(replacement_s))
    h1.open_iscsi.configure("node.conn[0].timeo.noop_out_interval", "1")
    h1.open_iscsi.configure("node.conn[0].timeo.noop_out_timeout", "1")
    under_load(lab)
    began = time.monotonic()
    pulled = [lab.begin(cable_pulled(lab, port.name)) for port in lab.array.spec.ports]
    lab.observe_for(DOWN_S)
    wait_for(
        f"{h1.name} to {noticed}",
        lambda: has_noticed(h1),
        until=bool,
        seconds=NOTICED_S,
        every=0.2,
    )
    for number in pulled:
        lab.end(number)
    down_s = round(time.monotonic() - began, 1)
    h1.keeps_writing()
    h1.stop_and_verify()
    return h1, down_s


def _lost_its_session(host: LabHost) -> bool:
    found = host.initiator.sessions()
    return bool(found) and all(session.state != "LOGGED_IN" for session in found)


def _had_an_error(host: LabHost) -> bool:
    return any(io["status"] != "ok" for io in host.lab.timeline.events("io", host.name))


@scenario(
    policy=Policy(hold_s=1.0),
    not_for={"libiscsi": "it does not notice in this time, and goes on without a new login"},
)
def all_ports_lost(lab: Lab) -> Iterable[Check]:
    """All ports die, and return before the host gives its disk up (replacement_timeout)."""
    h1, down_s = _lose_all_ports(lab, 120, "lose its session", _lost_its_session)
    return [
        new_login(h1.name, lab.array.virtual),
        *undisturbed(h1.name, down_s * 1000 + RELOGIN_BUDGET_MS),
    ]


@scenario(
    policy=Policy(hold_s=1.0),
    not_for={"libiscsi": "it never gives its disk up, however long it is away"},
)
def all_ports_lost_for_long(lab: Lab) -> Iterable[Check]:
    """All ports are down for longer than replacement_timeout: I/O errors, then I/O again."""
    h1, _ = _lose_all_ports(lab, REPLACEMENT_S, "give its disk up", _had_an_error)
    return [
        recovered_after_errors(h1.name, 100),
        new_login(h1.name, lab.array.virtual),
        session_survived(h1.name),
        no_lost_writes(h1.name),
        one_owner_of_virtual_address(),
        kernel_quiet(but="I/O error"),
        reached(),
    ]


def _flap(lab: Lab, times: int = 4) -> list[Check]:
    """The port of a host and of the virtual address goes down and up, again and again.

    Each return begins the hold time anew.
    """
    h1, home = under_load(lab), _home(lab)
    for left in reversed(range(times)):
        pulled = lab.begin(cable_pulled(lab, home))
        lab.observe_for(HOLD_S / 8)
        lab.end(pulled)
        if not left:
            # The port stays up now. Its addresses may return after the hold time, and no sooner.
            lab.mark(FLAPPED, later_s=lab.setup.policy.hold_s * 0.9)
        lab.observe_for(HOLD_S / 4)
    lab.observe_for(HOLD_S)
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        moved_times(lab.array.virtual, 1, until=FLAPPED),
        moved_times(lab.array.address_of(home), 1, until=FLAPPED),
        same_connection(h1.name),
        *undisturbed(h1.name, TAKEOVER_BUDGET_MS),
    ]


@scenario(ports=2, policy=at_home(hold_s=HOLD_S))
def flapping_port(lab: Lab) -> Iterable[Check]:
    """A port flaps faster than the hold time: its addresses move away once, and stay there."""
    return _flap(lab)


@scenario(ports=2, policy=at_home(hold_s=0.1), control=fails("moved_times"))
def control_no_hold(lab: Lab) -> Iterable[Check]:
    """flapping-port with a hold time of 0.1 s: the addresses move each time."""
    return _flap(lab)


@scenario(ports=2, policy=at_home(hold_s=HOLD_S))
def failback(lab: Lab) -> Iterable[Check]:
    """A dead port comes back and stays up: its addresses return once, after the hold time."""
    h1 = under_load(lab)
    home, other = (port.name for port in lab.array.spec.ports[:2])
    pulled = lab.begin(cable_pulled(lab, home))
    _wait_until_on(lab, lab.array.virtual, other)
    h1.keeps_writing()
    lab.end(pulled)
    _wait_until_on(lab, lab.array.virtual, home)
    lab.observe_for(1.0)
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        home_after_hold(lab.array.virtual, HOLD_S),
        home_after_hold(lab.array.address_of(home), HOLD_S),
        same_connection(h1.name),
        *undisturbed(h1.name, TAKEOVER_BUDGET_MS),
    ]


def unheard(
    lab: Lab, lost_s: float | None, budget_ms: float, lost_at: str | None = None
) -> list[Check]:
    """The port dies while announcements are lost, for `lost_s` seconds (None: to the end).

    They are lost at the host `lost_at`; None: at the first one.
    """
    h1, home = under_load(lab), _home(lab)
    address, other = lab.array.address_of(home), lab.array.spec.ports[1].name
    lost = lab.begin(announcements_lost(lab, lost_at or h1.name))
    lab.begin(cable_pulled(lab, home))
    if lost_s:
        _wait_until_on(lab, address, other)
        lab.observe_for(lost_s)
        lab.end(lost)
    h1.keeps_writing(seconds=budget_ms / 1000)
    h1.stop_and_verify()
    return [
        unannounced(h1.name, address),
        moved_to(address, away_from=home),
        *undisturbed(h1.name, budget_ms),
    ]


@scenario(ports=2, policy=at_home())
def lost_announcement(lab: Lab) -> Iterable[Check]:
    """A port dies, and the host misses the first ARP announcements of the moved addresses."""
    return unheard(lab, LOST_S, REPEATED_BUDGET_MS)


@scenario(
    ports=2,
    policy=at_home(),
    not_for={"libiscsi": "its connect waits for TCP's next try, which may be a minute away"},
)
def lost_announcements(lab: Lab) -> Iterable[Check]:
    """A port dies and no announcement reaches the host: it resolves the address itself."""
    return unheard(lab, None, UNANNOUNCED_BUDGET_MS)


@scenario(
    ports=2,
    policy=at_home(),
    not_for={"libiscsi": "netem needs a host with a kernel of its own"},
)
def lossy_port(lab: Lab) -> Iterable[Check]:
    """A port dies while its path loses, delays, reorders and duplicates frames."""
    h1, home = under_load(lab), _home(lab)
    lossy = lab.begin(cable_lossy(lab, h1.name))
    h1.keeps_writing()
    lose_port(lab, home, h1)
    lab.end(lossy)
    h1.stop_and_verify()
    return [
        frames_dropped(h1.name),
        moved_to(lab.array.address_of(home), away_from=home),
        same_connection(h1.name),
        *undisturbed(h1.name, LOSSY_BUDGET_MS),
    ]
