"""A scenario of two switches: the link between them is cut, and joined again."""

from lab.checks import no_io_errors, no_lost_writes, session_survived, stall_below
from lab.faults.network import cable_pulled
from lab.run.scenario import scenario


@scenario(topology="two_switches")
def trunk_cut(lab):
    """The host beside the virtual port is served on, whatever is cut off with the other switch."""
    h1 = lab.host("h1")
    h1.login()
    h1.start_writing()
    h1.keeps_writing(300)
    with cable_pulled(lab, "s1-s2"):
        lab.observe_for(1.5)
    h1.keeps_writing(300)
    h1.stop_and_verify()
    return [
        session_survived("h1"),
        no_io_errors("h1"),
        no_lost_writes("h1"),
        stall_below("h1", 5000),
    ]
