"""Topologies: what is refused, with its place, and what a good one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.errors import BadInput
from lab.topology import ArrayTopo, Lun
from lab.topology.loading import build, load_file, topology

HEADER = """\
from lab.topology import ArrayTopo, Lun
class Mine(ArrayTopo):
    def build(self):
"""
GOOD = """\
        self.addSwitch("s1")
        self.add_array("a1", virtual="10.0.0.1/24")
        self.add_port("p1", "10.0.0.11/24", "s1")
        self.add_port("p2", ["10.0.0.12/24", "fd00::12/64"], "s1")
        self.add_host("h1", "10.0.0.101/24", "s1")
"""


def refused(tmp_path: Path, old: str, new: str) -> str:
    assert old in HEADER + GOOD
    path = tmp_path / "mine.py"
    path.write_text((HEADER + GOOD).replace(old, new))
    with pytest.raises(BadInput) as error:
        topology(str(path))
    return str(error.value)


def test_a_good_one(tmp_path):
    (tmp_path / "mine.py").write_text(HEADER + GOOD)
    topo = topology(str(tmp_path / "mine.py"))
    assert [port.name for port in topo.storage.ports] == ["p1", "p2"]
    assert topo.storage.home.name == "p1"
    assert [str(a) for a in topo.storage.ports[1].addresses] == ["10.0.0.12/24", "fd00::12/64"]
    assert topo.storage.iqn == "iqn.2026-01.lab.failover:a1"
    assert topo.initiators["h1"].interface == "h1-eth0"
    assert topo.initiators["h1"].place.endswith("mine.py:8")
    assert {"a1", "h1"} == set(topo.hosts())
    ends = {link["port1"] is not None for _, _, link in topo.links(withInfo=True)}
    assert ends == {True}
    assert {link["intfName1"] for _, _, link in topo.links(withInfo=True)} == {
        "a1-p1", "a1-p2", "h1-eth0"
    }  # fmt: skip


TARGET = '        self.add_target("b1", luns=[Lun(1), Lun(7, 16)])\n'


def test_further_targets(tmp_path):
    (tmp_path / "mine.py").write_text(HEADER + GOOD + TARGET)
    first, second = topology(str(tmp_path / "mine.py")).storage.targets
    assert (first.name, first.iqn, len(first.luns)) == ("a1", "iqn.2026-01.lab.failover:a1", 1)
    assert (second.name, second.iqn) == ("b1", "iqn.2026-01.lab.failover:b1")
    assert second.luns == (Lun(1), Lun(7, 16))


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ('"p1"', "taken"),
        ('"a1"', "taken"),
        ('"B 1"', "no name"),
        ('"b1", luns=[]', "LUN numbers"),
        ('"b1", luns=[Lun(0)]', "1 to 255"),
        ('"b1", iqn="iqn.2026-01.lab.failover:a1"', "there is a target"),
        ('"b1", iqn="b1"', "not an iSCSI name"),
    ],
)
def test_a_further_target_that_cannot_be(tmp_path, new, said):
    (tmp_path / "mine.py").write_text(HEADER + GOOD + f"        self.add_target({new})\n")
    with pytest.raises(BadInput, match=rf"mine\.py:9: .*{said}"):
        topology(str(tmp_path / "mine.py"))


def test_a_target_before_its_array(tmp_path):
    array = '        self.add_array("a1", virtual="10.0.0.1/24")\n'
    assert "before its array" in refused(tmp_path, array, TARGET + array)


def test_two_targets_of_one_name(tmp_path):
    (tmp_path / "mine.py").write_text(HEADER + GOOD + TARGET + TARGET)
    with pytest.raises(BadInput, match=r"mine\.py:10: .*taken"):
        topology(str(tmp_path / "mine.py"))


def test_the_catalogue_loads():
    assert topology("one_switch").storage.ports


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("10.0.0.12/24", "10.0.0.11/24", 7, "port p1"),
        ("10.0.0.101/24", "10.0.0.1/24", 8, "the virtual port of a1"),
        ("fd00::12/64", "fd00:0:0::12", 7, "prefix length"),
        ("10.0.0.101/24", "10.0.0.101/31", 8, "prefix length"),
        ("10.0.0.101/24", "10.0.0.255/24", 8, "names its subnet"),
        ("fd00::12/64", "fd00::/64", 7, "names its subnet"),
        ("10.0.0.101/24", "169.254.0.5/24", 8, "link-local"),
        ("10.0.0.101/24", "10.0.1.101/24", 8, "shares no subnet"),
        ('"10.0.0.1/24"', '"10.0.9.1/24"', 5, "outside the subnets"),
        ('["10.0.0.12/24", "fd00::12/64"]', "[]", 7, "no address"),
        ('"h1"', '"H1"', 8, "no name"),
        ('"h1"', '"h1\\n"', 8, "no name"),
        ('"p2"', '"p1"', 7, "taken"),
        ('"p2"', '"s1"', 7, "taken"),
        ('"p2"', '"averylongportname"', 7, "20 letters"),
        ('"10.0.0.101/24", "s1"', '"10.0.0.101/24", "s2"', 8, "there are s1"),
        ('"10.0.0.1/24")', '"10.0.0.1/24", luns=[Lun(1), Lun(1)])', 5, "LUN numbers"),
        ('"10.0.0.1/24")', '"10.0.0.1/24", luns=[Lun(256)])', 5, "1 to 255"),
        ('"10.0.0.1/24")', '"10.0.0.1/24", iqn="iqn.2026-01.a:b\\n")', 5, "not an iSCSI name"),
        ('"10.0.0.1/24")', '"10.0.0.1/24", iqn="disk")', 5, "not an iSCSI name"),
        ('"10.0.0.1/24")', '"10.0.0.1/24", luns=[Lun(1, 1.5)])', 5, "whole MiB"),
        ("10.0.0.101/24", "10.0.0.101/16", 8, "overlaps 10.0.0.0/24 of the virtual port"),
        (
            '"s1")\n        self.add_array',
            '"s1"); self.addSwitch("s2")\n        self.add_array',
            4,
            "nothing is on it) to s1",
        ),
        (
            '"10.0.0.101/24", "s1")',
            '"10.0.0.101/24", self.addSwitch("s2"))',
            8,
            "switch s2 (h1) to s1",
        ),
        (
            'self.addSwitch("s1")',
            'self.addSwitch("s1"); self.addSwitch("s2"); '
            'self.addLink("s1", "s2"); self.addLink("s2", "s1")',
            4,
            "loop",
        ),
        (
            'self.addSwitch("s1")',
            'self.addSwitch("s1"); self.addLink("s1", "s9")',
            4,
            "add that first",
        ),
        ('"h1"', '"h-1-"', 8, "no name"),
        ('self.addSwitch("s1")', "self.nothing()", 4, "AttributeError"),
        ('self.addSwitch("s1")', "raise SystemExit(0)", 4, "SystemExit"),
    ],
)
def test_what_is_refused_is_named_with_its_line(tmp_path, old, new, line, said):
    message = refused(tmp_path, old, new)
    assert f"mine.py:{line}: " in message
    assert said in message


@pytest.mark.parametrize(
    ("old", "said"),
    [
        ('        self.add_host("h1", "10.0.0.101/24", "s1")\n', "no host"),
        ('        self.add_array("a1", virtual="10.0.0.1/24")\n', "before its array"),
    ],
)
def test_what_is_not_there_is_missed(tmp_path, old, said):
    assert said in refused(tmp_path, old, "")


def test_names_with_a_dash(tmp_path):
    text = (HEADER + GOOD).replace('"h1"', '"esx-1"').replace('"p1"', '"port-1"')
    (tmp_path / "mine.py").write_text(text)
    topo = topology(str(tmp_path / "mine.py"))
    assert topo.initiators["esx-1"].interface == "esx-1-eth0"
    assert (topo.storage.home.interface, topo.storage.home.node) == ("a1-port-1", "a1")


@pytest.mark.parametrize(("what", "number"), [("port", 129), ("host", 101)])
def test_more_than_there_is_room_for(tmp_path, what, number):
    more = "".join(
        f'        self.add_{what}("x{n}", "10.0.0.{20 + n}/24", "s1")\n' for n in range(number)
    )
    (tmp_path / "mine.py").write_text(HEADER + GOOD.replace("10.0.0.101", "10.0.0.200") + more)
    with pytest.raises(
        BadInput, match=rf"{number + (2 if what == 'port' else 1)} {what}s; a lab has"
    ):
        topology(str(tmp_path / "mine.py"))


def test_a_second_array(tmp_path):
    line = '        self.add_array("a1", virtual="10.0.0.1/24")\n'
    assert "a topology has one" in refused(tmp_path, line, line + line.replace("a1", "a2"))


@pytest.mark.parametrize("name", ["averylongswitch", "S1", "s-1"])
def test_a_switch_that_could_not_be_made(tmp_path, name):
    message = refused(tmp_path, '"s1"', f'"{name}"')
    assert repr(name) in message
    assert "letters" in message


def test_a_switch_with_the_name_of_a_host(tmp_path):
    last = '"10.0.0.101/24", "s1")\n'
    assert "taken" in refused(tmp_path, last, last + '        self.addSwitch("h1")\n')


def test_no_such_topology(tmp_path):
    with pytest.raises(BadInput, match=r"'nothing'; there are .*one_switch"):
        topology("nothing")
    with pytest.raises(BadInput, match=r"nowhere\.py: no such topology file"):
        topology(str(tmp_path / "nowhere.py"))


@pytest.mark.parametrize("number", [0, 2])
def test_a_file_holds_one_topology(tmp_path, number):
    path = tmp_path / "mine.py"
    classes = "".join((HEADER + GOOD).replace("Mine", f"Mine{i}") for i in range(number))
    path.write_text("from lab.topology.topology import ArrayTopo\n" + classes)
    with pytest.raises(BadInput, match=f"one subclass of ArrayTopo, not {number}"):
        topology(str(path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ny = (\n", r"mine\.py:2: '\(' was never closed"),
        ("x = 1\n\n1 / 0\n", r"mine\.py:3: ZeroDivisionError"),
        ("import nothing_like_it\n", r"mine\.py:1: ModuleNotFoundError"),
        ("raise SystemExit('no')\n", r"mine\.py:1: SystemExit: no"),
    ],
)
def test_a_file_that_does_not_run(tmp_path, monkeypatch, text, said):
    (tmp_path / "mine.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    for path in (Path("mine.py"), tmp_path / "mine.py"):
        with pytest.raises(BadInput, match=said):
            load_file(path, "topology")


def test_a_syntax_error_in_what_it_imports(tmp_path, monkeypatch):
    (tmp_path / "helper_of_mine.py").write_text("\n\nx = (\n")
    (tmp_path / "mine.py").write_text("import helper_of_mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadInput, match=r"helper_of_mine\.py:3: "):
        load_file(tmp_path / "mine.py", "topology")


def test_sizes_of_the_wrong_type():
    class Odd(ArrayTopo):
        def build(self):
            self.addSwitch("s1")
            self.add_array("a1", virtual="10.0.0.1/24", luns=[Lun(1, "64")])  # type: ignore[arg-type]

    with pytest.raises(BadInput, match=r"test_topology\.py:\d+: .*whole MiB"):
        build(Odd)


def test_a_switch_may_have_a_name_without_a_number(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text((HEADER + GOOD).replace('"s1"', '"fabric"'))
    assert int(topology(str(path)).nodeInfo("fabric")["dpid"], 16) == 1
