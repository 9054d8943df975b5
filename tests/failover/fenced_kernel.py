"""A scenario for test_heads.py: what is left of the kernel of a head that was fenced."""

from __future__ import annotations

from collections.abc import Iterable

from lab.checks import Answer, Check, Look, Timeline, check, failed, passed
from lab.faults.heads import head, head_unheard
from lab.run.lab import Lab
from lab.run.scenario import scenario
from lab.scenarios.heads import POLICY, _heads, _moved
from lab.scenarios.promises import under_load


@check
def kernel_ended(ended: bool) -> Look:
    """The head's kernel had ended when its addresses were at the other head."""

    def look(_timeline: Timeline) -> Answer:
        return passed("It had ended.") if ended else failed("It still ran.")

    return look


@scenario(topology="two_heads", policy=POLICY, needs=("heads",))
def fenced_kernel(lab: Lab) -> Iterable[Check]:
    """A head is fenced: its kernel ends, its cables going dark is not enough."""
    under_load(lab)
    home, _ = _heads(lab)
    process = head(lab, home).site._kernel._process
    assert process
    assert process.poll() is None
    lab.begin(head_unheard(lab, home))
    _moved(lab)
    return [kernel_ended(process.poll() is not None)]
