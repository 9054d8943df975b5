"""Who may log in: CHAP one way and both ways (RFC 7143 section 12.1.3), at discovery, by name.

A host that is refused here ends with no session and without an answer to any SCSI command, and no
secret is in any file of the run. What redirects does not ask for secrets, so that a host with a
wrong one is refused at the data port, with 0x0201 by either target.
"""

from __future__ import annotations

from collections.abc import Iterable

from lab.array.access import Access, Secrets
from lab.array.array import Policy
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
from lab.faults.network import cable_pulled
from lab.host.attempts import try_discovery, try_login
from lab.run.lab import Lab
from lab.run.scenario import scenario
from lab.scenarios.promises import undisturbed
from targets.base import ChapAccount

HOSTS = ChapAccount("hosts", "sesame-for-the-hosts")
ARRAY = ChapAccount("array", "sesame-of-the-array", mutual=True)
ASKING = ChapAccount("asking", "sesame-for-discovery")
WRONG = ChapAccount("hosts", "sesame-but-another-one")
WRONG_ARRAY = ChapAccount("array", "sesame-of-an-impostor", mutual=True)
ARRAY_AS_HOST = ChapAccount(ARRAY.user, ARRAY.secret)
"""The account of the array, shown by a host: right in one direction, wrong in the other."""

ONE_WAY, BOTH_WAYS = Secrets(HOSTS, discovery=ASKING), Secrets(HOSTS, ARRAY, ASKING)
REFUSED = "0x0201"
NOT_ALLOWED = {"tgt": "0x0203", "lio": "0x0202"}
"""What a target says to a host that its access list does not name: not found, or forbidden. The
front that is ours says the latter, and does not redirect such a host; tgt's redirects it."""
ONLY_OPEN_ISCSI = {"libiscsi": "how a refused login ended is told by iscsiadm's exit status"}
NOTICES = {"node.conn[0].timeo.noop_out_interval": "1", "node.conn[0].timeo.noop_out_timeout": "1"}
"""A host that notices after 2 s, not 10, that its port is dead: how soon is not the point here."""


def _back_after_loss(lab: Lab, who: set[str]) -> list[Check]:
    """h1 proves itself at a data port, loses it, and proves itself again at another."""
    h1, virtual, data = lab.host("h1"), lab.array.virtual, lab.array.data_addresses()
    for name, value in NOTICES.items() if lab.setup.initiator == "open-iscsi" else ():
        h1.open_iscsi.configure(name, value)
    lost = h1.login().address
    h1.start_writing()
    h1.keeps_writing()
    lab.begin(cable_pulled(lab, lab.array.port_of(lost)))
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        redirected_at_login("h1", virtual, to=data),
        served_at("h1", data - {lost}, "after"),
        proved("h1", lost, who),
        proved("h1", data - {lost}, who),
        no_secret_leaked(),
        *undisturbed("h1", h1.initiator.relogin_ms),
    ]


@scenario(policy=Policy(mode="redirect-only", access=Access(ONE_WAY)))
def redirect_with_chap(lab: Lab) -> Iterable[Check]:
    """A host is redirected, proves itself at the data port, loses it, and proves itself anew."""
    return _back_after_loss(lab, {"host"})


@scenario(
    policy=Policy(mode="redirect-only", access=Access(BOTH_WAYS)),
    not_for={"libiscsi": "in QEMU it cannot want a proof of the target"},
)
def redirect_with_mutual_chap(lab: Lab) -> Iterable[Check]:
    """The same with a host that wants a proof of the array as well, at each data port."""
    return _back_after_loss(lab, {"host", "target"})


@scenario(
    hosts=("h1", "h2"),
    policy=Policy(redirect="none", access=Access(BOTH_WAYS, {"h2": Secrets(WRONG)})),
    full_capture=True,
    not_for=ONLY_OPEN_ISCSI,
)
def served_with_chap(lab: Lab) -> Iterable[Check]:
    """At the virtual port that serves hosts itself, both sides prove themselves; one cannot."""
    h1, h2, virtual = lab.host("h1"), lab.host("h2"), lab.array.virtual
    h1.login()
    try_login(h2)
    h1.write_and_verify()
    return [
        login_answered("h1", virtual, "0x0000"),
        proved("h1", virtual, {"host", "target"}),
        served_at("h1", virtual, "after"),
        login_refused("h2", virtual, REFUSED),
        nothing_served("h2"),
        no_secret_leaked(),
        *_lives_on("h1"),
    ]


@scenario(
    hosts=("h1", "h2", "h3"),
    topology="four_hosts",
    policy=Policy(
        access=Access(
            Secrets(discovery=ASKING),
            {"h2": Secrets(discovery=ChapAccount("asking", WRONG.secret)), "h3": Secrets()},
        )
    ),
    not_for=ONLY_OPEN_ISCSI,
)
def discovery_with_chap(lab: Lab) -> Iterable[Check]:
    """The virtual port names itself to a host with the secret, and nothing to those without."""
    virtual = lab.array.virtual
    lab.host("h1").discover()
    for name in ("h2", "h3"):
        try_discovery(lab.host(name))
    return [
        discovery_hides_ports("h1", virtual),
        discovery_refused("h2", virtual, REFUSED),
        discovery_refused("h3", virtual, REFUSED),
        no_secret_leaked(),
        kernel_quiet(),
        reached(),
    ]


def _lives_on(host: str) -> list[Check]:
    """The session of a host beside one that is refused: how fast it is meanwhile does not count."""
    return [
        same_connection(host),
        session_survived(host),
        no_io_errors(host),
        no_lost_writes(host),
        kernel_quiet(),
        reached(),
    ]


def _stranger(lab: Lab, name: str = "h2") -> list[Check]:
    """While h1 writes, a host that cannot prove itself tries to log in."""
    h1 = lab.host("h1")
    h1.login()
    h1.start_writing()
    h1.keeps_writing(100)
    try_login(lab.host(name))
    h1.keeps_writing(100)
    h1.stop_and_verify()
    return [
        nothing_served(name),
        no_secret_leaked(),
        *_lives_on("h1"),
    ]


@scenario(
    hosts=("h1", "h2"),
    policy=Policy(access=Access(ONE_WAY, {"h2": Secrets(WRONG)})),
    full_capture=True,
    not_for=ONLY_OPEN_ISCSI,
)
def chap_wrong_secret(lab: Lab) -> Iterable[Check]:
    """A host with a wrong secret is redirected, and refused at the data port; another writes on."""
    found = _stranger(lab)
    return [login_refused("h2", lab.array.data_addresses(), REFUSED), *found]


@scenario(
    hosts=("h1", "h2"),
    policy=Policy(access=Access(ONE_WAY, {"h2": Secrets()})),
    full_capture=True,
    not_for=ONLY_OPEN_ISCSI,
)
def chap_missing_secret(lab: Lab) -> Iterable[Check]:
    """A host without a secret is refused: by tgt at the virtual port, for it offers no method."""
    found = _stranger(lab)
    at = {"tgt": lab.array.virtual, "lio": lab.array.data_addresses()}
    return [login_refused("h2", at[lab.array.engine.name], REFUSED), *found]


@scenario(
    hosts=("h1", "h2", "h3"),
    topology="four_hosts",
    policy=Policy(
        access=Access(
            BOTH_WAYS,
            {"h2": Secrets(HOSTS, WRONG_ARRAY), "h3": Secrets(ARRAY_AS_HOST)},
        )
    ),
    full_capture=True,
    not_for=ONLY_OPEN_ISCSI,
)
def chap_wrong_direction(lab: Lab) -> Iterable[Check]:
    """A host does not believe the array, whose proof is wrong for it; another shows that proof."""
    data = lab.array.data_addresses()
    found = _stranger(lab)
    try_login(lab.host("h3"))
    return [
        host_refused("h2", data),
        login_refused("h3", data, REFUSED),
        nothing_served("h3"),
        *found,
    ]


@scenario(
    hosts=("h1", "h2"),
    policy=Policy(access=Access(ONE_WAY, {"h2": Secrets(HOSTS, ARRAY)})),
    full_capture=True,
    not_for=ONLY_OPEN_ISCSI,
)
def chap_no_proof(lab: Lab) -> Iterable[Check]:
    """A host wants a proof of an array that has no secret for it: no login."""
    found = _stranger(lab)
    data = lab.array.data_addresses()
    refused = {"tgt": login_refused("h2", data, REFUSED), "lio": host_refused("h2", data)}
    return [refused[lab.array.engine.name], *found]


@scenario(
    hosts=("h1", "h2"),
    policy=Policy(access=Access(ONE_WAY, allowed=("h1",))),
    full_capture=True,
    not_for=ONLY_OPEN_ISCSI,
)
def initiator_not_allowed(lab: Lab) -> Iterable[Check]:
    """A host with the right secret that is not on the list is told of nothing, and refused."""
    h2, virtual, data = lab.host("h2"), lab.array.virtual, lab.array.data_addresses()
    try_discovery(h2)
    found = _stranger(lab)
    try_login(h2, lab.array.address_of(lab.array.spec.ports[1].name))
    engine = lab.array.engine.name
    at = {"tgt": data, "lio": data | {virtual}}
    return [
        discovery_refused("h2", virtual, "0x0000"),
        login_refused("h2", at[engine], NOT_ALLOWED[engine]),
        *found,
    ]


@scenario(
    hosts=("h1", "h2"),
    policy=Policy(access=Access(Secrets(), {"h2": Secrets(WRONG)})),
    full_capture=True,
    listed=False,
    not_for=ONLY_OPEN_ISCSI,
)
def control_chap_not_checked(lab: Lab) -> Iterable[Check]:
    """chap-wrong-secret with an array that asks nobody for a secret."""
    return chap_wrong_secret(lab)


@scenario(policy=Policy(access=Access(ONE_WAY)), listed=False, not_for=ONLY_OPEN_ISCSI)
def control_secret_in_a_log(lab: Lab) -> Iterable[Check]:
    """What a host is configured with is collected for its support, secrets and all."""
    h1 = lab.host("h1")
    h1.login()
    shown = h1.runner.run(["iscsiadm", "-m", "node", "-S", "-T", lab.array.spec.iqn])
    (lab.folder.logs / "h1-support.log").write_text(shown.output)
    return [no_secret_leaked(), kernel_quiet(), reached()]
