"""Bad input and lacking machines: one clear message, the right exit code, nothing half done."""

import os
import subprocess
from pathlib import Path

import pytest

from lab.cli.main import main
from lab.suite.plugin import LAB

HEADER = """\
from lab.topology import ArrayTopo, Lun
class Mine(ArrayTopo):
    def build(self):
"""
GOOD = """\
        self.addSwitch("s1")
        self.add_array("a1", virtual="10.0.0.1/24")
        self.add_port("p1", "10.0.0.11/24", "s1")
        self.add_port("p2", "10.0.0.12/24", "s1")
        self.add_host("h1", "10.0.0.101/24", "s1")
"""


def one_message(ran, status: int, *parts: str) -> None:
    assert ran.status == status, ran.err
    assert ran.out == ""
    told = [line for line in ran.err.splitlines() if line.startswith("lab: ")]
    assert len(told) == 1, ran.err
    for part in parts:
        assert part in told[0]


def test_unknown_scenario(lab_command, tmp_path):
    one_message(lab_command("run", "nonsense"), 2, "nonsense", "lab list")


def test_unknown_option(lab_command):
    one_message(lab_command("run", "port-loss", "--nonsense"), 2, "--nonsense")


def test_unknown_release(lab_command, tmp_path):
    ran = lab_command("run", "port-loss", "--release", "potato", "--out", tmp_path / "o")
    one_message(ran, 2, "potato", "trixie")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ('p2", "10.0.0.12', 'p2", "10.0.0.11', 7, "port p1"),
        ("10.0.0.1/24", "10.0.9.1/24", 5, "outside the subnets"),
        ('"h1", "10.0.0.101/24", "s1"', '"h1", "10.0.0.101/24", "s9"', 8, "s9"),
        ('add_host("h1"', 'add_host("p1"', 8, "taken"),
        ('add_host("h1"', 'add_host("averylonghost"', 8, "averylonghost-eth0"),
        ("10.0.0.101/24", "10.0.0.300/24", 8, "10.0.0.300"),
        ("10.0.0.101/24", "10.0.0.101", 8, "prefix"),
        ('self.addSwitch("s1")', "self.addSwitch(1/0)", 4, "ZeroDivisionError"),
        ('self.addSwitch("s1")', 'self.addSwitch("s1"', 4, "never closed"),
    ],
)
def test_broken_topology(lab_command, tmp_path, old, new, line, said):
    text = HEADER + GOOD
    assert old in text
    path = tmp_path / "mine.py"
    path.write_text(text.replace(old, new))
    ran = lab_command("run", "port-loss", "--topology", path, "--out", tmp_path / "o")
    one_message(ran, 2, f"mine.py:{line}:", said)
    assert not (tmp_path / "o").exists()


def test_an_array_without_ports(lab_command, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(HEADER + "\n".join(line for line in GOOD.splitlines() if "port(" not in line))
    ran = lab_command("run", "port-loss", "--topology", path, "--out", tmp_path / "o")
    one_message(ran, 2, "mine.py:5:", "no ports")


def test_too_few_hosts_for_a_scenario(lab_command, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(HEADER + GOOD)
    ran = lab_command(
        "run", "virtual-port-reassignment", "--topology", path, "--out", tmp_path / "o", "--json"
    )
    assert ran.status == 2, ran.err
    assert "needs 2 hosts; the topology has 1: h1" in ran.err


def test_missing_topology(lab_command):
    one_message(lab_command("run", "port-loss", "--topology", "nowhere.py"), 2, "nowhere.py")
    one_message(
        lab_command("run", "port-loss", "--topology", "nothing"), 2, "nothing", "one_switch"
    )


@pytest.mark.parametrize("returned", ["'text'", "None"])
def test_a_scenario_that_returns_no_checks(lab_command, tmp_path, returned):
    path = tmp_path / "mine.py"
    text = "from lab.run.scenario import scenario\n\n@scenario()\ndef mine(lab):\n    return "
    path.write_text(text + returned + "\n")
    ran = lab_command("run", path, "--out", tmp_path / "o")
    one_message(ran, 2, "mine.py:3: scenario mine must return a list of checks", returned)


def test_an_unknown_name_in_a_scenario(lab_command, tmp_path):
    path = tmp_path / "mine.py"
    text = "from lab.run.scenario import scenario\n\n@scenario()\ndef mine(lab):\n    "
    path.write_text(text + 'lab.switch_end("p9")\n')
    ran = lab_command("run", path, "--out", tmp_path / "o")
    one_message(ran, 2, "no cable 'p9'; there are p1, p2, p3, h1, h2")


# Name, options, and a phrase of the message, for what is refused before anything is made.
BAD = [
    (["run", "port_takover"], "did you mean port-takeover?"),
    (["run", "port-loss", "--topology", "one-swich"], "did you mean one_switch?"),
    (["run", "port-loss", "--release", "trixy"], "did you mean trixie?"),
    (["run", "port-loss", "--target", "tgd"], "no target 'tgd'"),
    (["run", "port-loss", "--initiator", "open-scsi"], "did you mean open-iscsi?"),
    (["run", "port-loss", "--out", "x" * 300], "File name too long"),
    (["run", "port-loss", "--out", "/dev/null/x"], "cannot be made"),
    (["run", "nowhere.py"], "no such scenario file"),
]


@pytest.mark.parametrize(("argv", "said"), BAD, ids=lambda value: str(value)[:40])
def test_what_is_refused_at_once(capsys, monkeypatch, tmp_path, argv, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lab", *argv])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told
    assert len(told) < 600
    assert not [*tmp_path.glob("**/luns")]


def test_a_working_directory_that_is_gone(tmp_path):
    gone = 'mkdir "$1"; cd "$1"; rmdir "$1"; exec "$2" list'
    argv = ["sh", "-c", gone, "x", str(tmp_path / "gone"), str(LAB)]
    ran = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "cd to one that is there" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system, which needs root")
def test_a_disk_that_fills_up(lab_command, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        """\
from lab.run.scenario import scenario

@scenario()
def fills_its_disk(lab):
    h1 = lab.host("h1")
    h1.login()
    h1.start_writing()
    with (lab.folder.path / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    h1.keeps_writing(300)
    return []
"""
    )
    (tmp_path / "small").mkdir()
    small = 'mount -t tmpfs -o size=300M small "$1"; shift; exec "$@"'
    prefix = ["unshare", "-m", "sh", "-c", small, "x", str(tmp_path / "small")]
    ran = lab_command("run", path, "--out", tmp_path / "small" / "o", prefix=prefix)
    one_message(ran, 3, "its disk is full")


def test_unwritable_out(lab_command, tmp_path):
    one_message(lab_command("run", "hidden-ports", "--out", "/proc/nothing"), 2, "/proc/nothing")
    (tmp_path / "file").write_text("")
    one_message(lab_command("run", "hidden-ports", "--out", tmp_path / "file" / "x"), 2, "file")


def test_out_is_not_overwritten(lab_command, tmp_path):
    (tmp_path / "precious").write_text("data")
    one_message(lab_command("run", "hidden-ports", "--out", tmp_path), 2, "not empty")
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system, which needs root")
def test_full_disk(lab_command, tmp_path):
    small = [
        "unshare",
        "-m",
        "sh",
        "-c",
        'mount -t tmpfs -o size=8M small "$1"; shift; exec "$@"',
        "x",
    ]
    ran = lab_command(
        "run", "hidden-ports", "--out", tmp_path / "o", prefix=[*small, str(tmp_path)]
    )
    one_message(ran, 3, "MiB free")


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's PATH is completed")
def test_no_tgtd(lab_command, tmp_path):
    for program in Path("/usr/sbin").iterdir():
        if program.name not in ("tgtd",):
            (tmp_path / program.name).symlink_to(program)
    ran = lab_command("run", "hidden-ports", env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    one_message(ran, 3, "tgtd", "apt-get install tgt")


@pytest.mark.skipif(os.geteuid() != 0, reason="forbids namespaces, which needs root")
def test_no_namespaces(lab_command, tmp_path):
    """In a user namespace that allows no further ones, and without the right to make others."""
    forbid = 'echo 0 > /proc/sys/user/max_net_namespaces; exec "$@"'
    prefix = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", forbid, "x"]
    if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        pytest.skip("the limit of namespaces cannot be set here")
    ran = lab_command("run", "hidden-ports", "--out", tmp_path / "o", prefix=prefix)
    assert ran.status == 3
    assert "sudo" in ran.err
