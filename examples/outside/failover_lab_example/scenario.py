"""A scenario: what happens in a lab, and what must hold."""

from __future__ import annotations

from collections.abc import Iterable

from failover_lab_example import check, fault
from lab.checks import Check, kernel_quiet, no_io_errors, no_lost_writes, reached, session_survived
from lab.run.lab import Lab
from lab.run.scenario import scenario


@scenario(topology="two_ports")
def loose_cable(lab: Lab) -> Iterable[Check]:
    """The cable of the port that serves a host is loose, and then sits firm again."""
    h1 = lab.host("h1")
    address = h1.login().address
    h1.start_writing()
    h1.keeps_writing()
    loose = lab.begin(fault.loose_cable(lab, lab.array.port_of(address)))
    lab.end(loose)
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        check.wrote_after("h1", fault.NAME),
        session_survived("h1"),
        no_io_errors("h1"),
        no_lost_writes("h1"),
        kernel_quiet(),
        reached(),
    ]
