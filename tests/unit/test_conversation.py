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


def test_flags_that_are_not_set_and_other_connections_are_no_end():
    clear = packet(2, HOST, PORT, tcp__flags__fin="0", tcp__flags__reset="False")
    other = packet(3, HOST, ("10.0.0.12", "22"), tcp__flags__fin="1")
    assert hung_up(LOGIN, clear, other) == []
