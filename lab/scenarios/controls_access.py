"""Negative controls of access: arrays and hosts that do not keep to what CHAP promises."""

from __future__ import annotations

from collections.abc import Iterable

from lab.array.access import Access, Secrets
from lab.array.policy import Policy
from lab.checks import (
    Check,
    host_refused,
    kernel_quiet,
    login_answered,
    login_refused,
    no_secret_leaked,
    proved,
    reached,
    served_at,
)
from lab.host.attempts import try_login
from lab.run.control import fails
from lab.run.lab import Lab
from lab.run.scenario import scenario
from lab.scenarios.access import (
    ARRAY,
    ASKING,
    BOTH_WAYS,
    ONE_WAY,
    ONLY_OPEN_ISCSI,
    REFUSED,
    WRONG,
    chap_wrong_secret,
    discovery_with_chap,
    knows,
    lives_on,
    stranger,
)
from lab.topology.topology import ArrayTopo
from targets.base import ChapAccount


@scenario(
    hosts=2,
    policy=knows(Secrets(), Secrets(WRONG)),
    full_capture=True,
    not_for=ONLY_OPEN_ISCSI,
    control=fails(
        "nothing_served",
        along={"login_refused": "a host that is let in is not refused"},
        quick=True,
    ),
)
def control_chap_not_checked(lab: Lab) -> Iterable[Check]:
    """chap-wrong-secret with an array that asks nobody for a secret."""
    return chap_wrong_secret(lab)


@scenario(
    policy=Policy(access=Access(ONE_WAY)),
    not_for=ONLY_OPEN_ISCSI,
    control=fails("no_secret_leaked"),
)
def control_secret_in_a_log(lab: Lab) -> Iterable[Check]:
    """The configuration of a host is written to a log, with its secrets."""
    h1 = lab.host()
    h1.login()
    shown = h1.runner.run(["iscsiadm", "-m", "node", "-S", "-T", lab.array.spec.iqn])
    (lab.folder.logs / "h1-support.log").write_text(shown.output)
    return [no_secret_leaked(), kernel_quiet(), reached()]


def _lists_the_first(topo: ArrayTopo) -> Policy:
    """The second host has a wrong secret, and is not on the list of those that may log in."""
    first, second = [*topo.initiators][:2]
    return Policy(access=Access(ONE_WAY, {second: Secrets(WRONG)}, allowed=(first,)))


@scenario(
    hosts=2,
    policy=_lists_the_first,
    full_capture=True,
    needs=("hides-targets",),
    not_for=ONLY_OPEN_ISCSI,
    control=fails("login_refused"),
)
def control_wrong_refusal(lab: Lab) -> Iterable[Check]:
    """chap-wrong-secret with an array that refuses the host for another reason than its secret."""
    found = stranger(lab)
    try_login(lab.host(1), lab.array.address_of(lab.array.spec.home.name))
    return [login_refused(lab.host(1).name, lab.array.data_addresses(), REFUSED), *found]


@scenario(
    hosts=3,
    topology="four_hosts",
    policy=knows(
        Secrets(), Secrets(discovery=ASKING), Secrets(discovery=ChapAccount("a", "b" * 12))
    ),
    not_for=ONLY_OPEN_ISCSI,
    control=fails("discovery_refused"),
)
def control_discovery_not_checked(lab: Lab) -> Iterable[Check]:
    """discovery-with-chap with an array that asks nobody for a secret."""
    return discovery_with_chap(lab)


@scenario(
    hosts=2,
    policy=knows(BOTH_WAYS, Secrets(WRONG, ARRAY)),
    full_capture=True,
    not_for=ONLY_OPEN_ISCSI,
    control=fails("host_refused"),
)
def control_array_refused(lab: Lab) -> Iterable[Check]:
    """The array refuses a host that should have refused the array."""
    return [host_refused(lab.host(1).name, lab.array.data_addresses()), *stranger(lab)]


def _one_way_host(topo: ArrayTopo) -> Policy:
    access = Access(BOTH_WAYS, {next(iter(topo.initiators)): ONE_WAY})
    return Policy(redirect="none", access=access)


@scenario(
    policy=_one_way_host,
    full_capture=True,
    not_for=ONLY_OPEN_ISCSI,
    control=fails("proved"),
)
def control_array_not_proved(lab: Lab) -> Iterable[Check]:
    """served-with-chap with a host that does not ask the array to prove itself."""
    h1, virtual = lab.host(), lab.array.virtual
    h1.login()
    h1.write_and_verify()
    return [
        login_answered(h1.name, virtual, "0x0000"),
        proved(h1.name, virtual, {"host", "target"}),
        served_at(h1.name, virtual, "after"),
        no_secret_leaked(),
        *lives_on(h1.name),
    ]
