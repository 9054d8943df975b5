"""What an array is told to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

PROBE = {"interval_ms": 20, "count": 3}
"""A port is silent after 60 ms. Measured without a false alarm: see tests/failover."""


@dataclass(frozen=True)
class Policy:
    """What the array is told to do.

    `mode`: whether a dead port's data address moves ("takeover") or its hosts only find another
    port at their next login ("redirect-only"). `redirect`: how a login at the virtual port is
    answered ("none": served there). `fixed`: host name to port name. `serve`: hosts that are served
    at the virtual port, whatever the others are answered. `front`: what the virtual port is, where
    the engine redirects natively: another one of it ("tgtd"), with one answer for all hosts, or the
    steered one ("steered"), which answers each for itself, and is what there is in front of all
    other engines, and where `serve` asks for it. `store`: how the engine keeps disks, one of its
    own names. `controller`: False switches the controller off, `probe`: False its probes, so that
    it learns of lost carriers only. `relay`: a relay at the data ports passes the controller's
    requests to move on to the hosts, and scenarios' orders. `fencing`: an array with heads cuts the
    power of a silent head before another gets its addresses. `parameters` of the target, such as
    DefaultTime2Wait.
    """

    mode: Literal["takeover", "redirect-only"] = "takeover"
    redirect: Literal["spread", "fixed", "none"] = "spread"
    fixed: dict[str, str] = field(default_factory=dict)
    serve: tuple[str, ...] = ()
    front: Literal["tgtd", "steered"] = "tgtd"
    store: str = ""
    hold_s: float = 5.0
    controller: bool = True
    probe: bool = True
    relay: bool = False
    fencing: bool = True
    parameters: dict[str, str] = field(default_factory=dict)
