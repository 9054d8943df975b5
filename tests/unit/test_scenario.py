"""The catalogue, scenarios of one's own, and whether they fit a topology."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lab.array.array import Policy
from lab.errors import BadInput
from lab.run import scenario as scenarios
from lab.run.scenario import Scenario, catalogue, check_fits, find
from lab.topology.loading import topology

HEADER = "from lab.run.scenario import scenario\n"
ONE = '@scenario(hosts="h2")\ndef first_of_mine(lab):\n    """What it does.\n\n    More."""\n'
TWO = "@scenario()\ndef second_of_mine(lab):\n    return []\n"


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """Each test begins with the catalogue alone."""
    monkeypatch.setattr(scenarios, "_catalogue", dict(catalogue()))


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
    with pytest.raises(BadInput, match="no scenario 'nonsense'; there are .*port-loss") as error:
        find("nonsense")
    assert "control-" not in str(error.value)


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
        (Scenario("x", list, hosts=("h1", "h9")), "one_switch: scenario x needs host h9; .*h1, h2"),
        (Scenario("x", list, policy=Policy(fixed={"h9": "p1"})), "needs host h9"),
        (Scenario("x", list, policy=Policy(fixed={"h1": "p9"})), "needs port p9; .*p1, p2, p3"),
    ],
)
def test_what_a_topology_lacks(one, said):
    with pytest.raises(BadInput, match=said):
        check_fits(one, topology("one_switch"), "one_switch")
