"""Topologies beyond one switch, names with dashes, and run folders with odd names, on real labs."""

from pathlib import Path

import pytest

from lab.timeline import Timeline

HERE = Path(__file__).parent
DASHED = """\
from lab.topology.topology import ArrayTopo
from lab.run.scenario import scenario

class Mine(ArrayTopo):
    def build(self):
        self.addSwitch("s1")
        self.add_array("a1", virtual="10.0.0.1/24")
        for n in (1, 2):
            self.add_port(f"port-{n}", f"10.0.0.{10 + n}/24", "s1")
        self.add_host("esx-1", "10.0.0.101/24", "s1")
        self.add_host("esx", "10.0.0.102/24", "s1")

@scenario(hosts=["esx-1"])
def mine(lab):
    from lab.checks import no_lost_writes
    host = lab.host("esx-1")
    host.login()
    host.start_writing()
    host.keeps_writing()
    host.stop_and_verify()
    return [no_lost_writes("esx-1")]
"""


def test_the_link_between_two_switches(run_scenario):
    result = run_scenario(str(HERE / "trunk.py"))
    assert result["verdict"] == "pass", result["checks"]
    assert result["topology"] == "two_switches"
    timeline = Timeline.read(Path(result["folder"]) / "timeline.jsonl")
    assert [e["phase"] for e in timeline.events("fault", "s1-s2")] == ["begin", "end"]


@pytest.mark.parametrize("target", ["tgt", "lio"])
def test_names_with_dashes_and_a_folder_with_blanks(lab_command, tmp_path, target):
    """A scenario and its topology in one file; the run folder has a blank and a comma."""
    (tmp_path / "my file.py").write_text(DASHED)
    out = tmp_path / "my run, the first"
    ran = lab_command("run", tmp_path / "my file.py", "--target", target, "--out", out, "--json")
    assert ran.status == 0, ran.err
    assert {f.stat().st_size for f in (out / "luns").glob("*-lun1.img")} == {64 << 20}
