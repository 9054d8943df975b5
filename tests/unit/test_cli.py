"""What the commands say of themselves."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from lab.cli import app

README = (Path(__file__).parents[2] / "README.md").read_text()


def commands(command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, one in getattr(command, "commands", {}).items():
        yield from commands(one, (*path, name))


@pytest.mark.parametrize("path", [*commands(get_command(app))], ids=" ".join)
def test_help(path):
    found = CliRunner().invoke(app, [*path, "--help"])
    assert found.exit_code == 0
    assert "\\" not in found.output, "a bracket that was escaped for another printer"
    named = [option for option in found.output.split() if option.startswith("--")]
    assert "--help" in named


@pytest.mark.parametrize("path", [p for p in commands(get_command(app)) if p], ids=" ".join)
def test_the_readme_knows_every_command(path):
    *groups, name = path
    lines = [line for line in README.splitlines() if name in line.replace("`", " ").split()]
    assert any(all(group in line for group in ["lab", *groups]) for line in lines), path
