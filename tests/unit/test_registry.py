"""What installed packages bring: found by entry point, loaded when asked for, told when broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.cli import doctor
from lab.errors import BadInput
from lab.registry import Registry
from targets.engines import ENGINES, Kind


def install(folder: Path, package: str, entries: str, group: str = "failover_lab.engines") -> None:
    """What pip leaves of a package: its metadata, and a module."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{entries}\n")


@pytest.fixture
def outside(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_ours_are_there_the_usual_one_first():
    assert next(iter(ENGINES)) == "tgt"
    assert {"tgt", "lio"} <= {*ENGINES}
    assert all(isinstance(ENGINES.find(name), Kind) for name in ("tgt", "lio"))


def test_one_of_another_package_is_found(outside):
    install(outside, "one", "fast = own_engine:KIND")
    (outside / "own_engine.py").write_text(
        "from targets.engines import Kind\nKIND = Kind(lambda place, logs, store: None)\n"
    )
    assert [*ENGINES] == ["tgt", "fast", "lio"]
    assert isinstance(ENGINES.find("fast"), Kind)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import no_such_thing", "cannot be imported: ModuleNotFoundError: No module named 'no_su"),
        ("KIND = 3", "no targets.engines.Kind"),
        ("1 / 0", "cannot be imported: ZeroDivisionError"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit"),
        ("def", "cannot be imported: SyntaxError"),
        ("", "cannot be imported: AttributeError"),
    ],
)
def test_one_that_is_broken_is_told_when_it_is_asked_for(outside, text, why):
    name = f"broken_{abs(hash(text))}"
    install(outside, "wrong", f"bad = {name}:KIND")
    (outside / f"{name}.py").write_text(text)
    assert "bad" in ENGINES
    with pytest.raises(BadInput, match="target 'bad': ") as error:
        ENGINES.find("bad")
    assert f"{name}:KIND of wrong" in str(error.value)
    assert why in str(error.value)
    assert isinstance(ENGINES.find("tgt"), Kind)
    found = {f.what: f for f in doctor._extras()}["bad, for --target bad"]
    assert (found.ok, found.needed, found.remedy) == (False, False, str(error.value))


def test_two_packages_with_one_name(outside):
    for package in ("one", "two"):
        install(outside, package, f"twin = {package}_engine:KIND")
    with pytest.raises(BadInput, match=r"one_engine:KIND of one and two_engine:KIND of two bring"):
        ENGINES.find("twin")
    assert len(ENGINES) == 3


def test_no_such_name():
    with pytest.raises(BadInput, match="no target 'ietd'; there are tgt, lio"):
        ENGINES.find("ietd")
    with pytest.raises(BadInput, match="no thing is installed; install"):
        Registry("failover_lab.nothing", "thing", Kind, "x").find("x")
