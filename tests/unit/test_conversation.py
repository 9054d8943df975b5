"""Who hung up, told from packets as tshark prints them."""

import pytest

from lab.observe.conversation import Conversations
from lab.observe.packet import FIELDS, parse

HOST, PORT = ("10.0.0.101", "51234"), ("10.0.0.12", "3260")


def packet(t, source, destination, **fields):
    ends = {"ip.src": source[0], "tcp.srcport": source[1]}
    ends |= {"ip.dst": destination[0], "tcp.dstport": destination[1]}
    named = {name.replace("__", "."): value for name, value in fields.items()}
    values = {"frame.time_epoch": str(t), "tcp.seq_raw": str(t), **ends, **named}
    return parse("\t".join(values.get(name, "") for name in FIELDS))


LOGIN = packet(1, HOST, PORT, iscsi__opcode="0x03", iscsi__isid="00023d000001")
LOGOUT = {"iscsi__opcode": "0x06", "iscsi__logout__reason": "0"}


def hung_up(*packets):
    talk = Conversations({HOST[0]: "h1"})
    for one in packets:
        talk.see(one, "h1")
    return [e for e in talk.events() if e["kind"] == "hung-up"]


@pytest.mark.parametrize(
    ("ends", "by"), [((HOST, PORT), "host"), ((PORT, HOST), "array")], ids=["host", "array"]
)
@pytest.mark.parametrize(("flag", "how"), [("fin", "fin"), ("reset", "reset")])
@pytest.mark.parametrize("value", ["1", "True"])
def test_the_first_end_counts(ends, by, flag, how, value):
    first = packet(2, *ends, **{f"tcp__flags__{flag}": value})
    (found,) = hung_up(LOGIN, first, packet(3, *ends[::-1], tcp__flags__fin="1"))
    assert (found["t"], found["where"], found["by"], found["how"]) == (2, "h1", by, how)
    assert found["portal"] == "10.0.0.12:3260"


def test_a_pdu_with_the_end_in_one_packet_is_both():
    talk = Conversations({HOST[0]: "h1"})
    for one in (LOGIN, packet(2, HOST, PORT, tcp__flags__fin="1", **LOGOUT)):
        talk.see(one, "h1")
    assert [e["kind"] for e in talk.events()] == ["login", "logout", "hung-up"]


def test_what_is_asked_aside_is_not_the_hosts_own():
    name = "InitiatorName=iqn.2026-01.lab.failover:host-h1"
    talk = Conversations({HOST[0]: "h1"})
    for end, number in (("-aside", "1"), ("", "2")):
        own = (HOST[0], number)
        talk.see(packet(1, own, PORT, iscsi__opcode="0x03", iscsi__keyvalue=name + end), "h1")
        talk.see(packet(2, own, PORT, tcp__flags__fin="1", **LOGOUT), "h1")
    kinds = [e["kind"] for e in talk.events()]
    assert sorted(kinds) == ["aside-hung-up", "aside-login", "aside-logout",
                             "hung-up", "login", "logout"]  # fmt: skip


def test_flags_that_are_not_set_and_other_connections_are_no_end():
    clear = packet(2, HOST, PORT, tcp__flags__fin="0", tcp__flags__reset="False")
    other = packet(3, HOST, ("10.0.0.12", "22"), tcp__flags__fin="1")
    assert hung_up(LOGIN, clear, other) == []


def test_who_has_shown_a_proof_is_told_and_not_the_proof():
    talk = Conversations({HOST[0]: "h1"})
    answer = {"iscsi__opcode": "0x23", "iscsi__login__status": "0x0000"}
    more, over = {"iscsi__login__T": "0"}, {"iscsi__login__T": "1", "iscsi__login__nsg": "3"}
    for one in (
        LOGIN,
        packet(2, HOST, PORT, iscsi__opcode="0x03", iscsi__keyvalue="CHAP_N=a\x1fCHAP_R=0x12"),
        packet(3, PORT, HOST, **answer, **more, iscsi__keyvalue="CHAP_R=0x34"),
        packet(4, PORT, HOST, **answer, **over),
    ):
        talk.see(one, "h1")
    (login,) = [e for e in talk.events() if e["kind"] == "login"]
    assert (login["status"], login["proved"]) == ("0x0000", ["host", "target"])
    assert "0x12" not in str(login)


@pytest.mark.parametrize("opcode", ["0x21", "0x25", "0x31"])
def test_the_first_answer_to_a_scsi_command_of_a_connection(opcode):
    talk = Conversations({HOST[0]: "h1"})
    for at in (2, 3):
        talk.see(packet(at, PORT, HOST, iscsi__opcode=opcode), "h1")
    (found,) = [e for e in talk.events() if e["kind"] == "scsi"]
    assert (found["t"], found["where"], found["portal"]) == (2, "h1", "10.0.0.12:3260")
