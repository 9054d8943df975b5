"""The package as pip installs it, in a Python that has no Mininet: pip cannot bring that."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("lab", "targets", "topologies")
BUILD = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
WITHOUT_MININET = """
import sys
sys.modules["mininet"] = None
from lab.cli.main import main
main()
"""


def ours(root: Path) -> set[str]:
    found = {p.relative_to(root) for name in PACKAGES for p in (root / name).rglob("*")}
    return {str(p) for p in found if (root / p).is_file() and "__pycache__" not in p.parts}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, for setuptools leaves folders behind, by what is installed: no network."""
    copy = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BUILD],
        cwd=copy, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return copy / "dist" / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Where the wheel is unpacked, before this checkout on the path of the commands."""
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    return site


@pytest.fixture
def lab(installed, tmp_path):
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", WITHOUT_MININET, *arguments],
            env={**os.environ, "PYTHONPATH": str(installed), "COLUMNS": "200"},
            cwd=tmp_path, check=False, capture_output=True, text=True,
        )  # fmt: skip

    return run


def test_all_that_is_here_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as packed:
        names = {name for name in packed.namelist() if ".dist-info/" not in name}
    assert names == ours(ROOT)


@pytest.mark.parametrize(
    "arguments",
    [["run", "port-redirection"], ["up"], ["demo"], ["bench", "failover"]],
    ids=" ".join,
)
def test_what_needs_mininet_says_what_to_install(lab, arguments, tmp_path):
    ran = lab(*arguments)
    assert (ran.returncode, ran.stdout) == (3, "")
    (told,) = ran.stderr.splitlines()
    assert told.startswith("lab: this machine lacks ")
    assert "mininet for Python: sudo apt-get install mininet" in told
    assert "venv --system-site-packages" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["list"], ["image", "list"], ["--help"]], ids=" ".join)
def test_what_needs_none_works(lab, arguments):
    ran = lab(*arguments)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout


def test_the_doctor_names_it(lab):
    ran = lab("doctor")
    assert (ran.returncode, ran.stderr) == (3, "")
    (told,) = [line for line in ran.stdout.splitlines() if "mininet for Python" in line]
    assert told.startswith("missing")
