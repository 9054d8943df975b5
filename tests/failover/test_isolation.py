"""Root in a guest reaches its own disks, and nothing else of the machine.

A module that root loads into a guest's kernel makes any system call that the kernel's process may
make. So each guest is looked at three times: from inside by hostfs; from outside, as the machine's
kernel shows its processes; and by a program that takes the kernel's place in the cage.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from ordinary_user import ordinary_user

HERE = Path(__file__).parent
LOOKING = str(HERE / "looking_out.py")
NOBODY = "65530"
NET_RAW = 1 << 13

WAYS = re.compile(r"^((/proc/(1|self)/(root|cwd))|(/work/\.\.(/\.\.)?))*")
OWN = re.compile(
    r"/(dev|image|lib|lib64|proc|usr|luns|seed|work)?$|/usr/bin(/linux\.uml)?$|/lib(64)?/[\w./-]+$"
    r"|/image/root\.ext4$|/dev/(null|zero|random|urandom)$|/proc/|/luns/[\w.-]+$|/work/"
)
CHANGEABLE = re.compile(r"/dev/(null|zero|random|urandom)$|/luns/[\w.-]+$|/work(/|$)")
DISKS = {
    "h1": set(), "h2": set(), "a1": {"a1-lun1.img", "a1-memory.img"},
    "a1a": {"a1-lun1.img", "a1a-memory.img"}, "a1b": {"a1-lun1.img", "a1b-memory.img"},
}  # fmt: skip


def seen_by(result_folder: Path) -> dict:
    seen = json.loads((result_folder / "logs/seen.json").read_text())
    assert seen
    return seen


def reaches_its_own_only(name: str, guest: dict) -> None:
    reached = [(line[0], WAYS.sub("", line[2:]) or "/") for line in guest["found"]]
    assert ("r", "/image/root.ext4") in reached  # it did look
    assert ("w", "/work") in reached
    assert [path for _, path in reached if not OWN.match(path)] == []
    assert [p for how, p in reached if how == "w" and not CHANGEABLE.match(p)] == []
    assert {p.split("/")[2] for _, p in reached if p.startswith("/luns/")} == DISKS[name]


def is_an_unprivileged_process(guest: dict, user: str) -> None:
    kernels = [one for one in guest["processes"] if one["Name"] == "linux.uml"]
    assert kernels
    for one in kernels:
        assert set(one["Uid"].split() + one["Gid"].split()) == {user}
        for kind in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(one[kind], 16) == NET_RAW, kind
        assert one["NoNewPrivs"] == "1"
        assert one["Seccomp"] == "2"
        assert one["root"] == [
            "dev", "image", "lib", "lib64", "luns", "proc", "seed", "usr", "work"
        ]  # fmt: skip
        assert one["shared"] == ["time", "time_for_children"]
    if user == NOBODY:
        assert {one["Groups"].strip() for one in kernels} == {""}


def nothing_is_allowed(name: str, probe: dict) -> None:
    assert probe["processes"] == ["1", "2"]
    assert probe["reached"] == []
    assert [call for call, said in probe["calls"].items() if said == "done"] == []
    assert [kind for kind, said in probe["sockets"].items() if said == "done"] == []
    # Its input and output are pipes to the lab.
    assert [path for path in probe["proc"] if not re.search(r"/fd/[01]$", path)] == []
    assert [path for path in probe["readable"] if not OWN.match(path)] == []
    assert "/image/root.ext4" in probe["readable"]
    changeable = [path.removesuffix("/.") for path in probe["writable"]]
    assert [path for path in changeable if not CHANGEABLE.match(path)] == []
    assert {p[6:] for p in changeable if p.startswith("/luns/")} == DISKS[name]


@pytest.mark.parametrize(
    ("options", "guests"),
    [
        (("--target", "lio"), {"h1", "h2", "a1"}),
        (("--topology", "two_heads", "--target", "lio"), {"h1", "a1a", "a1b"}),
    ],
)
def test_guests_of_every_kind(run_scenario, options, guests):
    result = run_scenario(LOOKING, *options, seconds=300.0)
    folder = Path(result["folder"])
    seen = seen_by(folder)
    assert guests <= seen.keys()
    for name, guest in seen.items():
        reaches_its_own_only(name, guest)
        is_an_unprivileged_process(guest, NOBODY if os.geteuid() == 0 else "0")
        nothing_is_allowed(name, guest["probe"])
    # Afterwards the disks are the user's again, as all that is in the folder.
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid()), path
        assert status.st_mode & 0o077 == 0, path


def test_guests_of_an_ordinary_user(lab_command):
    with ordinary_user([Path(LOOKING)]) as user:
        ran = lab_command(
            "run", LOOKING, "--target", "lio", "--json", "--out", user.home / "run",
            prefix=user.prefix, env=user.environment, cwd=user.home, seconds=300.0,
        )  # fmt: skip
        assert ran.results[0]["verdict"] == "unknown", ran.err  # it checks nothing
        for name, guest in seen_by(user.home / "run").items():
            reaches_its_own_only(name, guest)
            is_an_unprivileged_process(guest, "0")  # in the lab's user namespace: that user
            nothing_is_allowed(name, guest["probe"])
