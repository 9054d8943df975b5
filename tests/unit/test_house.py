"""Which folder may import which: pyproject.toml says it, the code and the drawing must agree."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("lab", "targets", "topologies")
RULES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Hold the code in `folder` against its pyproject.toml."""
    program = (
        "import sys; sys.path.insert(0, '.')\n"
        "from importlinter.cli import lint_imports\n"
        "sys.exit(lint_imports(cache_dir=None, no_cache=True))"
    )
    argv = [sys.executable, "-P", "-c", program]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)


def layers() -> list[set[str]]:
    """The folders of each layer, the highest first."""
    rule = next(one for one in RULES["contracts"] if one["id"] == "layers")
    return [set(re.split(r"\s*[|:]\s*", line)) for line in rule["layers"]]


def test_no_import_goes_up_and_none_in_a_circle():
    found = lint(ROOT)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ("file", "line", "name"),
    [
        ("lab/array/site.py", "import lab.run.lab", "lab.array is not allowed to import lab.run"),
        ("targets/base.py", "from lab.array import site", "targets is not allowed to import"),
        ("lab/observe/bpf.py", "from lab.checks import verdict", "lab.observe is not allowed"),
        (
            "lab/errors.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from lab import waiting",
            "No cycles are allowed in lab",
        ),
    ],
)
def test_a_new_arrow_is_found(tmp_path, file, line, name):
    for package in PACKAGES:
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=leave)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / file).open("a") as changed:
        changed.write(f"\n{line}\n")
    found = lint(tmp_path)
    assert found.returncode == 1
    assert name in found.stdout


def test_every_folder_has_its_layer():
    known = set().union(*layers())
    parts = [
        p for p in (ROOT / "lab").iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()
    ]
    assert known - {"targets"} == {f"lab.{p.stem}" for p in parts if p.stem != "__init__"}


def test_the_drawing_shows_these_layers():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    drawing = re.search(r"^```layers\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert drawing
    drawn = [
        set(re.findall(r"\b(?:lab|targets)(?:\.\w+)?", line.split("#")[0]))
        for line in drawing[1].splitlines()
        if line.strip(" ↓")
    ]
    assert drawn == layers()
