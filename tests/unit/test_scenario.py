"""The catalogue, scenarios of one's own, and whether they fit a topology."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import lab.scenarios
import topologies
from lab.array.policy import Policy
from lab.errors import BadInput
from lab.run.scenario import Scenario, check_fits, registered, scenario
from lab.scenarios import catalogue, find
from lab.topology.loading import topology
from lab.topology.topology import ArrayTopo
from targets import engines

HEADER = "from lab.run.scenario import scenario\n"
ONE = '@scenario(hosts="h2")\ndef first_of_mine(lab):\n    """What it does.\n\n    More."""\n'
TWO = "@scenario()\ndef second_of_mine(lab):\n    return []\n"


@pytest.fixture(autouse=True)
def restored():
    """Each test begins with the catalogue alone."""
    for own in {*registered} - {*catalogue()}:
        del registered[own]


def write(folder: Path, *parts: str, name: str = "mine.py") -> str:
    (folder / name).write_text(HEADER + "".join(parts))
    return str(folder / name)


def test_the_catalogue():
    known = catalogue()
    listed = {name for name, one in known.items() if one.listed}
    assert {"hidden-ports", "port-redirection", "port-loss", "port-takeover",
            "virtual-port-reassignment", "virtual-port-reassignment-serving"} <= listed  # fmt: skip
    unlisted = set(known) - listed - {"by-hand"}  # that one is `lab up`
    assert {name for name in known if name.startswith("control-")} == unlisted
    assert all(one.title != one.name and name == one.name for name, one in known.items())


def test_every_scenario_fits_its_own_topology():
    for one in catalogue().values():
        check_fits(one, topology(one.topology), one.topology)


def renamed(folder: Path, name: str) -> ArrayTopo:
    """The topology `name` with other names for its hosts, its ports and its heads."""
    text = Path(topologies.__file__).with_name(f"{name}.py").read_text()
    for old, new in (('f"p{number}"', 'f"sp{number}"'), ('f"h{number}"', 'f"esx{number}"'),
                     ('"h1"', '"esx1"'), ('"h2"', '"esx2"'), ('"h3"', '"esx3"'),
                     ('"a1a", "a1b"', '"left", "right"')):  # fmt: skip
        text = text.replace(old, new)
    (folder / "mine.py").write_text(text)
    topo = topology(str(folder / "mine.py"))
    names = [*topo.initiators, *(port.name for port in topo.storage.ports)]
    assert not [one for one in names if re.fullmatch(r"[hp]\d|a1[ab]", one)]
    return topo


@pytest.mark.parametrize("one", catalogue().values(), ids=lambda one: one.name)
def test_every_scenario_fits_its_topology_under_other_names(tmp_path, one):
    topo = renamed(tmp_path, one.topology)
    check_fits(one, topo, "mine.py", one.targets[0])
    policy = one.policy_for(topo)
    assert {*policy.fixed, *policy.serve, *policy.access.names} <= {*topo.initiators}


def test_no_scenario_of_the_catalogue_names_a_host_or_a_port():
    for path in Path(lab.scenarios.__file__).parent.glob("*.py"):
        assert not re.findall(r'"(?:[hp]\d|a1[ab]?)"', path.read_text()), path


@pytest.mark.parametrize("one", catalogue().values(), ids=lambda one: one.name)
def test_the_usual_engine_comes_first_and_others_are_refused_with_the_reason(one):
    assert one.targets
    assert engines.DEFAULT not in one.targets or one.targets[0] == engines.DEFAULT
    for target in set(engines.ENGINES) - set(one.targets):
        with pytest.raises(BadInput, match=f"{one.name} needs --target ") as refused:
            check_fits(one, topology(one.topology), "here", target)
        for need in one.lacking(target):
            assert engines.ABILITIES[need] in str(refused.value)


def test_an_ability_that_no_engine_can_have():
    with pytest.raises(
        BadInput, match=r"test_scenario.py:\d+: no ability 'flight'; there are .*kill"
    ):
        scenario(needs=("flight",))(lambda lab: [])


@pytest.mark.parametrize("one", catalogue().values(), ids=lambda one: one.name)
def test_initiators_that_a_scenario_is_not_for(one):
    assert one.initiators[0] == "open-iscsi"
    assert set(one.not_for) <= {"libiscsi"}
    for name, why in one.not_for.items():
        with pytest.raises(BadInput, match=f"{one.name} cannot be run with --initiator {name}: "):
            check_fits(one, topology(one.topology), "here", initiator=name)
        assert len(why) > 20


def test_an_unknown_initiator():
    with pytest.raises(BadInput, match="no initiator 'nonsense'; there are open-iscsi, libiscsi"):
        check_fits(find("port-loss"), topology("one_switch"), "here", initiator="nonsense")


def test_one_of_the_catalogue():
    assert find("port-loss").act is catalogue()["port-loss"].act
    assert find("control-two-owners").listed is False


def test_an_unknown_one_is_told_what_there_is():
    with pytest.raises(BadInput, match="no scenario 'nonsense'; `lab list` shows all") as error:
        find("nonsense")
    assert len(str(error.value)) < 120


@pytest.mark.parametrize(
    "typed", ["port_takeover", "port-takover", "prot-takeover", "Port-Takeover"]
)
def test_a_slip_is_told_what_was_meant(typed):
    with pytest.raises(BadInput, match=r"did you mean port-takeover\? `lab list` shows all"):
        find(typed)


def test_one_of_ones_own(tmp_path):
    found = find(write(tmp_path, ONE))
    assert (found.name, found.title) == ("first-of-mine", "What it does.")
    assert found.description.endswith("More.")
    assert found.hosts == ("h2",)
    assert "first-of-mine" not in catalogue()


@pytest.mark.parametrize("spelling", ["second_of_mine", "second-of-mine"])
def test_one_of_several_of_ones_own(tmp_path, spelling):
    assert find(f"{write(tmp_path, ONE, TWO)}:{spelling}").name == "second-of-mine"


def test_both_of_one_file_one_after_the_other(tmp_path):
    path = write(tmp_path, ONE, TWO)
    names = [find(f"{path}:{name}").name for name in ("first-of-mine", "second-of-mine")]
    assert names == ["first-of-mine", "second-of-mine"]


def test_the_same_file_twice_and_as_it_is_now(tmp_path):
    path = write(tmp_path, ONE)
    assert find(path).hosts == ("h2",)
    write(tmp_path, ONE.replace('"h2"', '["h1", "h2"]'))
    assert find(path).hosts == ("h1", "h2")


def test_two_files_with_a_scenario_of_the_same_name(tmp_path):
    (tmp_path / "other").mkdir()
    first = find(write(tmp_path, ONE))
    second = find(write(tmp_path / "other", ONE.replace('"h2"', '"h1"')))
    assert (first.hosts, second.hosts) == (("h2",), ("h1",))


def test_a_file_with_several_asks_which(tmp_path):
    path = write(tmp_path, ONE, TWO)
    with pytest.raises(BadInput, match=re.escape(f"{path}:first-of-mine, {path}:second-of-mine")):
        find(path)


def test_a_file_with_none_says_how(tmp_path):
    for suffix in ("", ":mine"):
        with pytest.raises(BadInput, match="no scenario; put @scenario"):
            find(write(tmp_path) + suffix)


def test_a_name_that_the_file_lacks(tmp_path):
    with pytest.raises(BadInput, match="no scenario 'third'; there are first-of-mine"):
        find(write(tmp_path, ONE) + ":third")


def test_a_file_that_is_not_there_or_does_not_run(tmp_path):
    with pytest.raises(BadInput, match="no such scenario file"):
        find(str(tmp_path / "nowhere.py"))
    with pytest.raises(BadInput, match=r"mine\.py:2: NameError"):
        find(write(tmp_path, "oops\n"))


@pytest.mark.parametrize("other", [ONE, TWO.replace("second_of_mine", "port_loss")])
def test_two_of_one_name_are_refused_with_both_places(tmp_path, other):
    path = write(tmp_path, ONE, other)
    first = f"{path}:2" if other == ONE else "promises.py:"
    with pytest.raises(BadInput, match="two scenarios are called") as error:
        find(path)
    assert first in str(error.value)
    assert f"{path}:7" in str(error.value)


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (Scenario("x", list, hosts=3), "one_switch: scenario x needs 3 hosts; .* has 2: h1, h2"),
        (Scenario("x", list, ports=4), "needs 4 ports; the topology has 3: p1, p2, p3"),
        (Scenario("x", list, needs=("heads",)), "needs an array with heads; .* has none"),
        (find("mixed-families"), "mixed-families: it needs a host with IPv6 and nothing else"),
        (Scenario("x", list, hosts=("h1", "h9")), "one_switch: scenario x needs host h9; .*h1, h2"),
        (Scenario("x", list, policy=Policy(fixed={"h9": "p1"})), "needs host h9"),
        (Scenario("x", list, policy=Policy(fixed={"h1": "p9"})), "needs port p9; .*p1, p2, p3"),
    ],
)
def test_what_a_topology_lacks(one, said):
    with pytest.raises(BadInput, match=said):
        check_fits(one, topology("one_switch"), "one_switch")


TOPOLOGY = """\
from lab.topology.topology import ArrayTopo


class Mine(ArrayTopo):
    def build(self):
        self.addSwitch("s1")
        self.add_array("a1", virtual="10.0.0.1/24")
        self.add_port("p1", "10.0.0.11/24", "s1")
        self.add_host("h2", "10.0.0.101/24", "s1")


"""


def test_a_file_with_a_scenario_and_its_topology(tmp_path):
    """The scenario runs on it, and the file is not run twice."""
    path = write(tmp_path, TOPOLOGY, ONE)
    assert find(path).topology == path
    assert [*topology(path).initiators] == ["h2"]


@pytest.mark.parametrize(("said", "found"), [("two_heads", "two_heads"), ("my.py", "{}/my.py")])
def test_what_a_scenario_says_itself_counts(tmp_path, said, found):
    path = write(tmp_path, TOPOLOGY, ONE.replace("hosts", f"topology={said!r}, hosts"))
    assert find(path).topology == found.format(tmp_path)


def test_a_scenario_that_takes_no_lab(tmp_path):
    path = write(tmp_path, ONE.replace("(lab)", "()"))
    with pytest.raises(BadInput, match=r"mine\.py:2: .*must take one argument.*first_of_mine\(lab"):
        find(path)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with scenarios and a topology of its own."""
    info = tmp_path / "extra_lab-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extra-lab\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[failover_lab.scenarios]\nextra = extra_lab_for_test\n"
        "[failover_lab.topologies]\nextra = extra_lab_for_test:Mine\nodd = extra_lab_for_test:odd\n"
        "path = pathlib:Path\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "extra_lab_for_test.py"
    sys.modules.pop("extra_lab_for_test", None)


def test_scenarios_and_topologies_of_an_installed_package(package):
    package.write_text(
        HEADER + TOPOLOGY + ONE.replace("hosts", "topology='extra', hosts") + "odd = 1\n"
    )
    assert find("first-of-mine").topology == "extra"
    assert [*topology("extra").initiators] == ["h2"]
    with pytest.raises(BadInput, match="topology 'odd': .* of extra-lab is no builtins.type"):
        topology("odd")
    with pytest.raises(BadInput, match="topology 'path': Path is no subclass of ArrayTopo"):
        topology("path")


def test_two_packages_with_a_topology_of_one_name(package):
    info = package.parent / "other_lab-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-lab\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[failover_lab.topologies]\nextra = other:Mine\n")
    with pytest.raises(BadInput, match="topology 'extra': .*of extra-lab.* and .*of other-lab"):
        topology("extra")


def test_an_installed_package_that_does_not_load(package):
    package.write_text("1 / 0\n")
    with pytest.raises(BadInput, match="extra_lab_for_test of extra-lab .*ZeroDivisionError"):
        catalogue()
