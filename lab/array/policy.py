"""The policy of an array: how it fails over, redirects logins and authenticates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lab.array.access import Access
from lab.errors import BadInput


@dataclass(frozen=True)
class Probing:
    """How the controller finds ports that are silent although their link is up.

    Each port probes every other one each `interval_ms`. A port is silent after `count` rounds
    without a probe from it. The default (12 ms) is to be faster than a host's TCP: its tail-loss
    probe follows 20 to 30 ms after a lost segment. If that is lost too, nothing follows for 200 ms
    (tcp_schedule_loss_probe, net/ipv4/tcp_output.c). `lab bench alarms` measures the false alarms.
    Raises BadInput if either is below 1.
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

    `mode`: the data address of a dead port moves ("takeover"), or hosts find another port at their
    next login ("redirect-only"). `redirect`: the answer to a login at the virtual port ("none":
    served there). `fixed`: host name to port name. `serve`: hosts that the virtual port serves,
    whatever it answers to others. `front`: the process at the virtual port, for an engine that can
    redirect: a second one of it ("native"), with one answer for all hosts, or the steered front
    ("steered"), with an answer for each host. Other engines, `serve`, `relay` and two address
    families always get the steered one. `store`: how the engine keeps disks, by its own name for
    it. `hold_s`: seconds that a port must be back before it is used again. `controller`: False
    switches the controller off. `probe`: None switches probes off, so that it only sees lost
    carriers. `relay`: a relay at the data ports passes requests of the controller and of scenarios
    on to hosts. `fencing`: an array with heads cuts the power of a silent head before another gets
    its addresses. `lease`: such a head gives up its addresses when it is cut off from the
    controller; False is for controls only. `parameters`: of the target, such as DefaultTime2Wait.
    `access`: login security.
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
    lease: bool = True
    parameters: dict[str, str] = field(default_factory=dict)
    access: Access = field(default_factory=Access)
