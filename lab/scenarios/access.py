"""Who may log in: CHAP one way and both ways (RFC 7143 section 12.1.3), at discovery, by name.

A refused host ends with no session and no answer to any SCSI command. No file of the run holds a
secret. The front does not ask for secrets when it redirects, so a host with a wrong secret is
refused at the data port, with status 0x0201 by either target.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lab.array.access import Access, Secrets
from lab.array.policy import Policy
from lab.checks import (
    Check,
    discovery_hides_ports,
    discovery_refused,
    host_refused,
    kernel_quiet,
    login_answered,
    login_refused,
    no_io_errors,
    no_lost_writes,
    no_secret_leaked,
    nothing_served,
    proved,
    reached,
    redirected_at_login,
    same_connection,
    served_at,
    session_survived,
)
from lab.host.attempts import try_discovery, try_login
from lab.run.lab import Lab
from lab.run.scenario import PolicyOf, scenario
from lab.scenarios.promises import lose_serving_port, under_load, undisturbed
from lab.topology.topology import ArrayTopo
from targets import engines
from targets.base import ChapAccount

HOSTS = ChapAccount("hosts", "sesame-for-the-hosts")
ARRAY = ChapAccount("array", "sesame-of-the-array", mutual=True)
ASKING = ChapAccount("asking", "sesame-for-discovery")
WRONG = ChapAccount("hosts", "sesame-but-another-one")
WRONG_ARRAY = ChapAccount("array", "sesame-of-an-impostor", mutual=True)
ARRAY_AS_HOST = ChapAccount(ARRAY.user, ARRAY.secret)
"""The array's account, used by a host: it is valid in the other direction only."""

ONE_WAY, BOTH_WAYS = Secrets(HOSTS, discovery=ASKING), Secrets(HOSTS, ARRAY, ASKING)
REFUSED = "0x0201"
ONLY_OPEN_ISCSI = {"libiscsi": "only iscsiadm's exit status tells how a refused login ended"}
NOTICES = {"node.conn[0].timeo.noop_out_interval": "1", "node.conn[0].timeo.noop_out_timeout": "1"}
"""The host notices a dead port after 2 s, not 10 s: the time does not matter here."""


def knows(array: Secrets, *others: Secrets) -> PolicyOf:
    """The array and the first host have the secrets `array`; the next hosts have `others`."""

    def policy(topo: ArrayTopo) -> Policy:
        return Policy(access=Access(array, dict(zip([*topo.initiators][1:], others, strict=False))))

    return policy


def _can(lab: Lab, ability: str) -> bool:
    """Whether the target engine of `lab` has this ability."""
    return ability in engines.find(lab.setup.target).abilities


def _back_after_loss(lab: Lab, who: set[str]) -> list[Check]:
    """A host authenticates at a data port, loses it, and authenticates again at another one."""
    virtual, data = lab.array.virtual, lab.array.data_addresses()
    for name, value in NOTICES.items() if lab.setup.initiator == "open-iscsi" else ():
        lab.host().open_iscsi.configure(name, value)
    h1, lost = lose_serving_port(lab)
    return [
        redirected_at_login(h1.name, virtual, to=data),
        served_at(h1.name, data - {lost}, "after"),
        proved(h1.name, lost, who),
        proved(h1.name, data - {lost}, who),
        no_secret_leaked(),
        *undisturbed(h1.name, h1.initiator.relogin_ms),
    ]


@scenario(ports=2, policy=Policy(mode="redirect-only", access=Access(ONE_WAY)))
def redirect_with_chap(lab: Lab) -> Iterable[Check]:
    """A redirected host authenticates at its data port; the port dies, it does so at another."""
    return _back_after_loss(lab, {"host"})


@scenario(
    ports=2,
    policy=Policy(mode="redirect-only", access=Access(BOTH_WAYS)),
    not_for={"libiscsi": "QEMU cannot ask the target for mutual CHAP"},
)
def redirect_with_mutual_chap(lab: Lab) -> Iterable[Check]:
    """Mutual CHAP of host and array at each data port, before and after a port dies."""
    return _back_after_loss(lab, {"host", "target"})


@scenario(
    hosts=2,
    policy=lambda topo: replace(knows(BOTH_WAYS, Secrets(WRONG))(topo), redirect="none"),
    full_capture=True,
    not_for=ONLY_OPEN_ISCSI,
)
def served_with_chap(lab: Lab) -> Iterable[Check]:
    """The virtual port serves a host with the right secret, and refuses one with a wrong secret."""
    (h1, h2), virtual = lab.some_hosts(2), lab.array.virtual
    h1.login()
    try_login(h2)
    h1.write_and_verify()
    return [
        login_answered(h1.name, virtual, "0x0000"),
        proved(h1.name, virtual, {"host", "target"}),
        served_at(h1.name, virtual, "after"),
        login_refused(h2.name, virtual, REFUSED),
        nothing_served(h2.name),
        no_secret_leaked(),
        *lives_on(h1.name),
    ]


@scenario(
    hosts=3,
    topology="four_hosts",
    policy=knows(
        Secrets(discovery=ASKING),
        Secrets(discovery=ChapAccount("asking", WRONG.secret)),
        Secrets(),
    ),
    not_for=ONLY_OPEN_ISCSI,
)
def discovery_with_chap(lab: Lab) -> Iterable[Check]:
    """Discovery at the virtual port works with the secret, and is refused without it."""
    (h1, h2, h3), virtual = lab.some_hosts(3), lab.array.virtual
    h1.discover()
    for host in (h2, h3):
        try_discovery(host)
    return [
        discovery_hides_ports(h1.name, virtual),
        discovery_refused(h2.name, virtual, REFUSED),
        discovery_refused(h3.name, virtual, REFUSED),
        no_secret_leaked(),
        kernel_quiet(),
        reached(),
    ]


def lives_on(host: str) -> list[Check]:
    """The session of `host` survives while another host is refused; its stall does not count."""
    return [
        same_connection(host),
        session_survived(host),
        no_io_errors(host),
        no_lost_writes(host),
        kernel_quiet(),
        reached(),
    ]


def stranger(lab: Lab) -> list[Check]:
    """While the first host writes, the second tries to log in with credentials that fail."""
    h1, h2 = under_load(lab), lab.host(1)
    try_login(h2)
    h1.keeps_writing(100)
    h1.stop_and_verify()
    return [
        nothing_served(h2.name),
        no_secret_leaked(),
        *lives_on(h1.name),
    ]


@scenario(
    hosts=2,
    policy=knows(ONE_WAY, Secrets(WRONG)),
    full_capture=True,
    not_for=ONLY_OPEN_ISCSI,
)
def chap_wrong_secret(lab: Lab) -> Iterable[Check]:
    """A host with a wrong secret is refused at the data port; another host keeps writing."""
    found = stranger(lab)
    return [login_refused(lab.host(1).name, lab.array.data_addresses(), REFUSED), *found]


@scenario(
    hosts=2,
    policy=knows(ONE_WAY, Secrets()),
    full_capture=True,
    not_for=ONLY_OPEN_ISCSI,
)
def chap_missing_secret(lab: Lab) -> Iterable[Check]:
    """A host without a secret is refused; another host, with the secret, keeps writing."""
    found = stranger(lab)
    # An engine that redirects natively is the front, and asks for AuthMethod there already.
    at = {lab.array.virtual} if _can(lab, "redirects") else lab.array.data_addresses()
    return [login_refused(lab.host(1).name, at, REFUSED), *found]


@scenario(
    hosts=3,
    topology="four_hosts",
    policy=knows(BOTH_WAYS, Secrets(HOSTS, WRONG_ARRAY), Secrets(ARRAY_AS_HOST)),
    full_capture=True,
    not_for=ONLY_OPEN_ISCSI,
)
def chap_wrong_direction(lab: Lab) -> Iterable[Check]:
    """One host expects another secret of the array; one uses the array's account: no login."""
    data = lab.array.data_addresses()
    found = stranger(lab)
    _, h2, h3 = lab.some_hosts(3)
    try_login(h3)
    return [
        host_refused(h2.name, data),
        login_refused(h3.name, data, REFUSED),
        nothing_served(h3.name),
        *found,
    ]


@scenario(
    hosts=2,
    policy=knows(ONE_WAY, Secrets(HOSTS, ARRAY)),
    full_capture=True,
    not_for=ONLY_OPEN_ISCSI,
)
def chap_no_proof(lab: Lab) -> Iterable[Check]:
    """A host demands mutual CHAP of an array that has no secret for it: no login."""
    found = stranger(lab)
    h2, data = lab.host(1), lab.array.data_addresses()
    if _can(lab, "refuses-to-prove"):
        return [login_refused(h2.name, data, REFUSED), *found]
    return [host_refused(h2.name, data), *found]


@scenario(
    hosts=2,
    policy=lambda topo: Policy(access=Access(ONE_WAY, allowed=(next(iter(topo.initiators)),))),
    ports=2,
    full_capture=True,
    not_for=ONLY_OPEN_ISCSI,
)
def initiator_not_allowed(lab: Lab) -> Iterable[Check]:
    """A host has the right secret but is not on the access list: no target shown, no login."""
    h2, virtual, data = lab.host(1), lab.array.virtual, lab.array.data_addresses()
    try_discovery(h2)
    found = stranger(lab)
    try_login(h2, lab.array.address_of(lab.array.spec.ports[1].name))
    # The steered front knows the list, and redirects only hosts on it.
    at = data if _can(lab, "redirects") else data | {virtual}
    status = "0x0203" if _can(lab, "hides-targets") else "0x0202"  # not found, or forbidden
    return [
        discovery_refused(h2.name, virtual, "0x0000"),
        login_refused(h2.name, at, status),
        *found,
    ]
