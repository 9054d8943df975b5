"""Faults of arrays with heads. Like those in lab.faults.network they are undone on exit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lab.array.head import Head
from lab.array.heads import HeadArray
from lab.errors import BadInput, unknown
from lab.faults.network import recorded
from lab.run.lab import Lab


def heads(lab: Lab) -> HeadArray:
    """The array of `lab`; BadInput if it has no heads."""
    if not isinstance(lab.array, HeadArray):
        raise BadInput(f"{lab.array.spec.name} has no heads; choose --topology two_heads")
    return lab.array


def head(lab: Lab, name: str) -> Head:
    """The head `name`; BadInput if there is none."""
    found = heads(lab).heads
    if name not in found:
        raise unknown("head", name, found)
    return found[name]


@contextmanager
def head_unheard(lab: Lab, name: str) -> Iterator[None]:
    """Controller and head `name` hear nothing of each other, but their link stays up."""
    one, manager = head(lab, name), heads(lab).manager
    # States of a bridge's port (include/uapi/linux/if_bridge.h): 0 disabled, 3 forwarding.
    command = ["bridge", "link", "set", "dev", one.spec.link, "state"]
    with recorded(lab, name, "unheard"):
        manager.run([*command, "0"])
        try:
            yield
        finally:
            # Not checked: the kernel has done it by itself if the head was off meanwhile.
            manager.run([*command, "3"], check=False)


@contextmanager
def power_switch_deaf(lab: Lab) -> Iterator[None]:
    """The power switch does not hear the controller: no power is cut, and nothing is confirmed."""
    array = heads(lab)
    with recorded(lab, array.spec.name, "power-switch-deaf"):
        array.switch_works = False
        try:
            yield
        finally:
            array.switch_works = True


@contextmanager
def head_powered_off(lab: Lab, name: str) -> Iterator[None]:
    """Cut the power of a head. At the end of the fault it is on again and its agent runs."""
    one = head(lab, name)
    with recorded(lab, name, "power-cut"):
        one.cut()
        one.darken()
        try:
            yield
        finally:
            one.power_on()
