"""The catalogue's first table with the second initiator: libiscsi, in a host without a kernel."""

import json
import os
from pathlib import Path

import pytest

from lab import scenarios
from lab.timeline import Timeline

LIBISCSI = ("--initiator", "libiscsi")
SEED = [
    "hidden-ports", "port-redirection", "served-at-virtual-port", "load-spread", "port-loss",
    "port-takeover", "virtual-port-reassignment", "virtual-port-reassignment-serving",
    "reconnect-request", "rebalance", "failback",
]  # fmt: skip


def timeline(result) -> Timeline:
    return Timeline.read(Path(result["folder"]) / "timeline.jsonl")


def evidence(result, check: str) -> str:
    (found,) = [c for c in result["checks"] if c["name"].startswith(check)]
    return found["evidence"]


def run(run_scenario, name, *options):
    result = run_scenario(name, *LIBISCSI, *options)
    why = [c for c in result["checks"] if c["verdict"] != "pass"]
    assert result["verdict"] == "pass", json.dumps(why, indent=1)
    return result


@pytest.mark.parametrize("name", SEED)
def test_what_the_storage_system_promises(run_scenario, name):
    result = run(run_scenario, name)
    assert result["initiator"] == "libiscsi"
    assert "--initiator libiscsi" in result["command"]
    assert {"libiscsi", "qemu", "kernel", "target"} <= result["versions"].keys()
    assert "open-iscsi" not in result["versions"]
    if result["measures"].get("acked_writes"):
        assert result["measures"]["lost_writes"] == result["measures"]["io_errors"] == 0
    check_of_its_own = globals().get("of_" + name.replace("-", "_"))
    if check_of_its_own:
        check_of_its_own(result)


def of_port_loss(result):
    """The disk lives on, by another iSCSI session: libiscsi reinstates none, and says so."""
    logins = timeline(result).events("login", "h1")
    assert [e["status"] for e in logins] == ["0x0101", "0x0000"] * 2
    first, second = (e["isid"] for e in logins if e["status"] == "0x0000")
    assert first != second
    assert evidence(result, "session_survived").endswith(f"logged in: {first}, {second}.")


def of_port_takeover(result):
    seen = {e["moment"]: e for e in timeline(result).events("session", "h1")}
    assert seen["before"]["connection"] == seen["after"]["connection"] != ""
    assert seen["before"]["serial"] == seen["after"]["serial"] == "a1lun1"
    assert seen["before"]["size_bytes"] == 64 << 20
    (only,) = {e["isid"] for e in timeline(result).events("login", "h1")}
    assert evidence(result, "session_survived").endswith(f"logged in: {only}.")


def of_hidden_ports(result):
    (asked,) = timeline(result).events("discovery")
    assert asked["portals"] == ["10.0.0.1:3260"]
    assert timeline(result).events("discovery-wire")[0]["portals"][0].startswith("10.0.0.1")


def test_a_target_in_a_kernel_of_its_own(run_scenario):
    result = run(run_scenario, "port-takeover", "--target", "lio")
    assert "console of a1" in evidence(result, "kernel_quiet")


def test_over_ipv6(run_scenario):
    result = run(run_scenario, "redirect-ipv6")
    assert "fd00" in result["served"]["h1"]["after"]


def test_several_scenarios_after_each_other(lab_command, tmp_path):
    names = ("port-takeover", "hidden-ports")
    ran = lab_command("run", *names, *LIBISCSI, "--json", "--out", tmp_path / "runs")
    assert {(r["verdict"], r["initiator"]) for r in ran.results} == {("pass", "libiscsi")}, ran.err


def test_a_broken_array_fails(run_scenario):
    result = run_scenario("control-lost-write", *LIBISCSI)
    failed = [c["name"] for c in result["checks"] if c["verdict"] == "fail"]
    assert failed == ["no_lost_writes(h1)"]


PROVES = '''
from lab.array.access import Access, Secrets
from lab.array.policy import Policy
from lab.checks import discovery_hides_ports, no_secret_leaked, proved, reached
from lab.run.scenario import scenario
from lab.scenarios.access import ASKING, HOSTS, ONE_WAY, WRONG
from lab.scenarios.promises import undisturbed

def both(lab):
    h1 = lab.host("h1")
    h1.login()
    h1.write_and_verify(100)
    return [
        discovery_hides_ports("h1", lab.array.virtual),
        proved("h1", lab.array.data_addresses(), {"host"}),
        no_secret_leaked(),
        *undisturbed("h1", 1000),
    ]

@scenario(policy=Policy(access=Access(ONE_WAY)))
def with_the_secret(lab):
    """It proves itself at discovery and at the data port."""
    return both(lab)

@scenario(policy=Policy(access=Access(ONE_WAY, {"h1": Secrets(HOSTS)})))
def without_that_of_discovery(lab):
    """It is told of nothing."""
    return both(lab)

@scenario(policy=Policy(access=Access(ONE_WAY, {"h1": Secrets(WRONG, discovery=ASKING)})))
def with_another_secret(lab):
    """It is refused at the data port."""
    return both(lab)
'''


@pytest.mark.parametrize("target", ["tgt", "lio"])
def test_it_proves_itself(run_scenario, tmp_path, target):
    path = tmp_path / "proves.py"
    path.write_text(PROVES)
    run(run_scenario, f"{path}:with_the_secret", "--target", target)


@pytest.mark.parametrize("name", ["without_that_of_discovery", "with_another_secret"])
def test_it_cannot_prove_itself(run_scenario, tmp_path, name):
    path = tmp_path / "proves.py"
    path.write_text(PROVES)
    result = run_scenario(f"{path}:{name}", *LIBISCSI)
    assert result["verdict"] == "fail"
    assert evidence(result, "reached").startswith("Not in time: h1")
    assert "sesame" not in json.dumps(result)


DIES = '''
from lab.checks import no_io_errors, no_lost_writes, session_survived
from lab.run.scenario import scenario

@scenario()
def its_program_dies(lab):
    """Nothing holds the disk open any more."""
    h1 = lab.host("h1")
    h1.login()
    h1.start_writing()
    h1.keeps_writing(50)
    h1.initiator.kill()
    lab.observe_for(0.3)
    h1.stop_and_verify()
    return [session_survived("h1"), no_io_errors("h1"), no_lost_writes("h1")]
'''


def test_a_disk_that_is_gone_has_not_survived(run_scenario, tmp_path):
    path = tmp_path / "dies.py"
    path.write_text(DIES)
    result = run_scenario(str(path), *LIBISCSI)
    assert {c["verdict"] for c in result["checks"]} == {"fail"}, result["checks"]


def test_a_scenario_that_it_cannot_be_run_with(lab_command, tmp_path):
    one = scenarios.find("redirect-permanent")
    ran = lab_command("run", one.name, *LIBISCSI, "--out", tmp_path / "o")
    assert ran.status == 2
    assert one.not_for["libiscsi"] in ran.err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("command", [("run", "port-loss"), ("demo",)])
def test_an_unknown_initiator(lab_command, tmp_path, command):
    ran = lab_command(*command, "--initiator", "nonsense", "--out", tmp_path / "o")
    assert ran.status == 2
    assert "there are open-iscsi, libiscsi" in ran.err
    assert not (tmp_path / "o").exists()


def test_the_list_says_what_runs_with_what(lab_command):
    rows = {row["name"]: row for row in lab_command("list", "--json").results}
    assert rows["port-loss"]["initiators"] == ["open-iscsi", "libiscsi"]
    assert rows["redirect-permanent"]["initiators"] == ["open-iscsi"]
    assert "0x0102" in rows["redirect-permanent"]["not_for"]["libiscsi"]
    assert rows["array-power-cut"]["targets"] == ["lio"]


@pytest.mark.skipif(os.geteuid() != 0, reason="hides a folder, which needs root")
def test_qemu_without_its_driver(lab_command, tmp_path):
    (driver,) = Path("/usr/lib").glob("*/qemu/block-iscsi.so")
    prefix = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none "$1"; shift; exec "$@"', "x"]
    ran = lab_command(
        "run", "hidden-ports", *LIBISCSI, "--out", tmp_path / "o",
        prefix=[*prefix, str(driver.parent)],
    )  # fmt: skip
    assert ran.status == 3
    assert "apt-get install qemu-block-extra" in ran.err
    assert not (tmp_path / "o").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's PATH is completed")
def test_no_tools_of_libiscsi(lab_command, tmp_path):
    for folder in ("/usr/bin", "/usr/sbin"):
        for program in Path(folder).iterdir():
            if not program.name.startswith("iscsi-") and not (tmp_path / program.name).exists():
                (tmp_path / program.name).symlink_to(program)
    ran = lab_command("run", "hidden-ports", *LIBISCSI, env={"PATH": str(tmp_path)})
    assert ran.status == 3
    assert "apt-get install libiscsi-bin" in ran.err
