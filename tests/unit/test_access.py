"""Secrets: who is configured with which, the proofs made of them, and where they are found."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from lab.array.access import Access, Secrets, seek_secrets
from lab.array.policy import Policy
from lab.commands import Result
from lab.errors import BadInput, CommandFailed
from lab.host.open_iscsi import OpenIscsi
from lab.run.scenario import Scenario, check_fits
from lab.timeline import Timeline
from lab.topology.loading import topology
from targets import chap
from targets.base import ChapAccount
from targets.chap import Authenticator, Unproven, decode_binary
from targets.front.discovery import DiscoveryLogin
from targets.pdu import BHS, Pdu, decode_keys, encode_keys

HOSTS = ChapAccount("hosts", "correct-horse-9")
ARRAY = ChapAccount("array", "battery-staple", mutual=True)
ASKING = ChapAccount("asking", "discover-this-1")
ALL = Secrets(HOSTS, ARRAY, ASKING)


class TestConfiguration:
    def test_hosts_know_what_the_array_knows_but_for_exceptions(self):
        access = Access(ALL, {"h2": Secrets(ChapAccount("hosts", "something-else"))})
        assert access.known_to("h1") == ALL
        assert access.known_to("h2").mutual is None
        assert len(access.secrets) == 4
        assert Access().known_to("h1") == Secrets()
        assert not Access().secrets

    def test_a_target_asks_with_what_is_for_logins(self):
        assert ALL.of_target == (HOSTS, ARRAY)
        assert Secrets(discovery=ASKING).of_target == ()

    def test_no_secret_is_shown(self):
        shown = repr(Policy(access=Access(ALL)))
        assert "hosts" in shown
        assert not [a for a in (HOSTS, ARRAY, ASKING) if a.secret in shown]

    @pytest.mark.parametrize(
        ("accounts", "why"),
        [
            ({"mutual": ARRAY}, "needs an account that hosts log in with"),
            ({"login": ARRAY}, "needs an account that hosts log in with"),
            ({"discovery": ARRAY}, "needs an account that hosts log in with"),
            ({"login": HOSTS, "mutual": ASKING}, "mutual=True is for mutual alone"),
            ({"login": ChapAccount("hosts", "too short")}, "12 characters or more"),
            ({"discovery": ChapAccount("a b", "correct-horse-9")}, "no blanks"),
        ],
    )
    def test_accounts_that_cannot_be_meant(self, accounts, why):
        with pytest.raises(BadInput, match=why) as refused:
            Secrets(**accounts)
        assert not [a for a in accounts.values() if a.secret in str(refused.value)]

    @pytest.mark.parametrize("access", [Access(hosts={"h9": ALL}), Access(allowed=("h9",))])
    def test_a_host_that_is_not_there(self, access):
        one = Scenario("x", lambda _: [], policy=Policy(access=access))
        with pytest.raises(BadInput, match="needs host h9; there is h1"):
            check_fits(one, topology("one_switch"), "one_switch")


class Guest:
    host = "h1"

    def __init__(self, status=0):
        self.status, self.ran, self.typed = status, [], ""

    def run(self, argv, *, seconds=30.0, stdin=None, check=True):
        self.ran.append(argv)
        self.typed += stdin or ""
        if self.status:
            raise CommandFailed(self.host, argv, self.status, "disk full")
        return Result(0, "")


class TestOpenIscsi:
    def learn(self, known, status=0):
        guest = Guest(status)
        OpenIscsi(guest, Timeline(), Path("/nowhere")).learn(known)
        return guest

    def test_its_settings(self):
        guest = self.learn(ALL)
        assert dict(line.split(" = ") for line in guest.typed.splitlines()) == {
            "discovery.sendtargets.auth.authmethod": "CHAP",
            "discovery.sendtargets.auth.username": "asking",
            "discovery.sendtargets.auth.password": "discover-this-1",
            "node.session.auth.authmethod": "CHAP",
            "node.session.auth.username": "hosts",
            "node.session.auth.password": "correct-horse-9",
            "node.session.auth.username_in": "array",
            "node.session.auth.password_in": "battery-staple",
        }

    def test_nothing_to_learn(self):
        assert self.learn(Secrets()).ran == []

    def test_no_secret_is_in_a_command_or_in_what_is_said_when_it_fails(self):
        said = str(self.learn(ALL).ran)
        with pytest.raises(CommandFailed) as failed:
            self.learn(ALL, status=1)
        said += str(failed.value)
        assert not [a for a in (HOSTS, ARRAY, ASKING) if a.secret in said]


class TestSeeking:
    def seek(self, folder: Path, *secrets: str):
        timeline = Timeline()
        seek_secrets(folder, secrets, timeline)
        (event,) = timeline.events("secrets-sought")
        return event

    def test_a_file_that_holds_one_is_named_and_the_secret_is_not(self, tmp_path):
        (tmp_path / "logs").mkdir()
        (tmp_path / "logs" / "a.log").write_text("password = correct-horse-9\n")
        (tmp_path / "logs" / "b.log").write_text("password = ********\n")
        (tmp_path / "h1.pcap").write_bytes(b"\xff\0\xd4battery-staple\0")
        event = self.seek(tmp_path, HOSTS.secret, ARRAY.secret)
        assert (event["secrets"], event["files"]) == (2, 3)
        assert event["found"] == ["h1.pcap", "logs/a.log"]
        assert "horse" not in json.dumps(event)

    def test_disks_are_left_out(self, tmp_path):
        (tmp_path / "luns").mkdir()
        (tmp_path / "luns" / "lun1.img").write_text(HOSTS.secret)
        (tmp_path / "logs").mkdir()
        (tmp_path / "logs" / "luns").write_text(HOSTS.secret)
        assert self.seek(tmp_path, HOSTS.secret)["found"] == ["logs/luns"]

    @pytest.mark.parametrize("before", [(1 << 20) - 15, (1 << 20) - 7, 1 << 20, (2 << 20) - 1])
    def test_one_that_lies_across_two_pieces(self, tmp_path, before):
        (tmp_path / "a").write_bytes(bytes(before) + HOSTS.secret.encode() + bytes(9))
        assert self.seek(tmp_path, HOSTS.secret)["found"] == ["a"]

    def test_as_a_timeline_or_a_report_spells_it(self, tmp_path):
        secret = 'quote"back\\slash<&>'
        (tmp_path / "timeline.jsonl").write_text(json.dumps({"said": secret}))
        (tmp_path / "report.html").write_text("quote&quot;back\\slash&lt;&amp;&gt;")
        assert self.seek(tmp_path, secret)["found"] == ["report.html", "timeline.jsonl"]


def proof_for(asked: dict[str, str], secret: str = ASKING.secret) -> str:
    challenge = bytes.fromhex(asked["CHAP_C"].removeprefix("0x"))
    return "0x" + chap.response(int(asked["CHAP_I"]), secret, challenge).hex()


class TestChap:
    def asked(self) -> tuple[Authenticator, dict[str, str]]:
        one = Authenticator("asking", ASKING.secret)
        assert one.answer({"AuthMethod": "SRP,CHAP,None"}) == {"AuthMethod": "CHAP"}
        asked = one.answer({"CHAP_A": "7,6,5"})
        assert asked["CHAP_A"] == "5"
        assert not one.proven
        return one, asked

    def test_the_right_secret(self):
        one, asked = self.asked()
        assert one.answer({"CHAP_N": "asking", "CHAP_R": proof_for(asked)}) == {}
        assert one.proven

    def test_a_known_answer(self):
        # MD5 of 01, "secret", 00 01 02: worked out with md5sum(1).
        assert chap.response(1, "secret", b"\0\1\2").hex() == "c4081e0c9f89346155ddb08f0bf91611"

    def test_an_answer_in_base64(self):
        one, asked = self.asked()
        raw = bytes.fromhex(proof_for(asked)[2:])
        one.answer({"CHAP_N": "asking", "CHAP_R": "0b" + base64.b64encode(raw).decode()})
        assert one.proven

    def test_no_challenge_twice(self):
        assert self.asked()[1]["CHAP_C"] != self.asked()[1]["CHAP_C"]

    @pytest.mark.parametrize(
        "change",
        [
            {"CHAP_N": "hosts"},
            {"CHAP_N": ""},
            {"CHAP_R": ""},
            {"CHAP_R": "0x"},
            {"CHAP_R": "0x00"},
            {"CHAP_R": "0xgg"},
            {"CHAP_R": "0b!"},
            {"CHAP_R": "0x" + "00" * 3000},
            {"CHAP_I": "1", "CHAP_C": "0x1234"},
        ],
    )
    def test_anything_else_is_no_proof(self, change):
        one, asked = self.asked()
        with pytest.raises(Unproven):
            one.answer({"CHAP_N": "asking", "CHAP_R": proof_for(asked), **change})
        assert not one.proven

    def test_another_secret_is_no_proof(self):
        one, asked = self.asked()
        wrong = proof_for(asked, "discover-that-1")
        with pytest.raises(Unproven) as refused:
            one.answer({"CHAP_N": "asking", "CHAP_R": wrong})
        assert ASKING.secret not in str(refused.value)

    @pytest.mark.parametrize("offer", [{}, {"AuthMethod": "None"}, {"AuthMethod": "KRB5,None"}])
    def test_a_host_that_cannot(self, offer):
        with pytest.raises(Unproven, match="CHAP"):
            Authenticator("asking", ASKING.secret).answer(offer)

    @pytest.mark.parametrize("algorithms", [{}, {"CHAP_A": "7"}, {"CHAP_A": "55"}])
    def test_a_host_with_other_algorithms(self, algorithms):
        one = Authenticator("asking", ASKING.secret)
        one.answer({"AuthMethod": "CHAP"})
        with pytest.raises(Unproven, match="MD5"):
            one.answer(algorithms)

    def test_binary_values(self):
        assert decode_binary("0x123") == b"\x01\x23"
        assert decode_binary("0XfF") == b"\xff"


def request(flags: int, **keys: str) -> Pdu:
    bhs = bytearray(BHS)
    bhs[0], bhs[1] = 0x43, flags
    return Pdu(bytes(bhs), encode_keys(keys))


class TestDiscoveryLogin:
    ACCOUNT = {"user": "asking", "secret": ASKING.secret}  # noqa: RUF012
    NAMES = {"InitiatorName": "iqn.2024-01.lab.h1:host", "SessionType": "Discovery"}  # noqa: RUF012

    def test_the_way_through(self):
        login = DiscoveryLogin(self.ACCOUNT)
        flags, data = login.answer(request(0x81, **self.NAMES, AuthMethod="CHAP,None"))
        # Not on to the next stage, though the host is ready for it.
        assert (flags, decode_keys(data)) == (0x00, [("AuthMethod", "CHAP")])
        flags, data = login.answer(request(0x00, CHAP_A="5"))
        keys = {"CHAP_N": "asking", "CHAP_R": proof_for(dict(decode_keys(data)))}
        assert login.answer(request(0x81, **keys)) == (0x81, b"")
        flags, data = login.answer(request(0x87, HeaderDigest="None", Unheard="1"))
        assert (flags, login.done) == (0x87, True)
        told = [("HeaderDigest", "None"), ("Unheard", "NotUnderstood")]
        assert decode_keys(data) == told

    @pytest.mark.parametrize("flags", [0x87, 0x04, 0x83 | 0x04])
    def test_no_stage_can_be_left_out(self, flags):
        login = DiscoveryLogin(self.ACCOUNT)
        with pytest.raises(Unproven, match="security stage"):
            login.answer(request(flags, **self.NAMES))
        assert not login.done

    def test_nor_the_proof(self):
        login = DiscoveryLogin(self.ACCOUNT)
        login.answer(request(0x01, **self.NAMES, AuthMethod="CHAP"))
        login.answer(request(0x00, CHAP_A="5"))
        with pytest.raises(Unproven):
            login.answer(request(0x83))
        assert not login.done

    def test_with_no_account_nobody_is_asked(self):
        login = DiscoveryLogin(None)
        flags, data = login.answer(request(0x83, **self.NAMES, AuthMethod="CHAP,None"))
        assert (flags, login.done) == (0x83, True)
        assert decode_keys(data) == [("AuthMethod", "None")]
        with pytest.raises(Unproven):
            DiscoveryLogin(None).answer(request(0x81, **self.NAMES, AuthMethod="CHAP"))
