"""What an array is told to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lab.array.access import Access
from lab.errors import BadInput


@dataclass(frozen=True)
class Probing:
    """How the controller looks for ports that are silent though their link is up: each port sends
    to every other each `interval_ms`, and is silent after `count` rounds unheard.

    The usual product is what a host's TCP leaves: a tail-loss probe leaves it 20 to 30 ms after
    what was lost, and where that one is lost as well, nothing more for 200 ms
    (tcp_schedule_loss_probe, net/ipv4/tcp_output.c). `lab bench alarms` measures what it costs in
    false alarms. Raises BadInput for a round of no time, or none.
    """

    interval_ms: float = 4.0
    count: int = 3

    def __post_init__(self) -> None:
        if not (self.interval_ms >= 1 and self.count >= 1):
            raise BadInput(
                f"probes every {self.interval_ms:g} ms, {self.count} of them: at least 1 of each"
            )


@dataclass(frozen=True)
class Policy:
    """What the array is told to do.

    `mode`: whether a dead port's data address moves ("takeover") or its hosts only find another
    port at their next login ("redirect-only"). `redirect`: how a login at the virtual port is
    answered ("none": served there). `fixed`: host name to port name. `serve`: hosts that are served
    at the virtual port, whatever the others are answered. `front`: what answers there. "native": an
    engine that redirects by itself, with one answer for all hosts, where the target has one.
    "steered": a process of ours with an answer for each host; it is used as well where the target
    has no such engine, and where `serve` asks for it. `store`: how the engine keeps disks, one of
    its own names. `controller`: False switches the controller off. `probe`: None switches its
    probes off, so that it learns of lost carriers only. `relay`: a relay at the data ports passes the controller's
    requests to move on to the hosts, and scenarios' orders. `fencing`: an array with heads cuts the
    power of a silent head before another gets its addresses. `parameters` of the target, such as
    DefaultTime2Wait. `access`: who may log in, and with what secrets.
    """

    mode: Literal["takeover", "redirect-only"] = "takeover"
    redirect: Literal["spread", "fixed", "none"] = "spread"
    fixed: dict[str, str] = field(default_factory=dict)
    serve: tuple[str, ...] = ()
    front: Literal["native", "steered"] = "native"
    store: str = ""
    hold_s: float = 5.0
    controller: bool = True
    probe: Probing | None = field(default_factory=Probing)
    relay: bool = False
    fencing: bool = True
    parameters: dict[str, str] = field(default_factory=dict)
    access: Access = field(default_factory=Access)
