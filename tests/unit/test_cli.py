"""What the commands say of themselves."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from lab.cli import main as cli
from lab.cli.main import app

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


@pytest.fixture
def lab(monkeypatch, capsys):
    """Run the command here: its exit status, and what it said to standard output and error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lab", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "nonsense"),
        (["run"], "argument"),
        (["run", "port-loss", "--nonsense"], "--nonsense"),
        (["run", "port-loss", "--seed", "x"], "--seed"),
        (["image", "nonsense"], "nonsense"),
    ],
)
def test_what_it_is_not_asked_for_so(lab, arguments, said):
    status, out, err = lab(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("lab: ")
    assert said in err


@pytest.mark.parametrize("group", [[], ["image"], ["bench"]], ids=" ".join)
def test_a_group_alone_shows_its_commands(lab, group):
    status, out, err = lab(*group)
    assert (status, out) == (2, "")
    assert err.startswith("Usage: lab")
    assert "Commands:" in err


def test_ctrl_c(lab, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("lab.scenarios.catalogue", interrupted)
    status, out, err = lab("list")
    assert (status, out) == (130, "")
    assert err == "lab: interrupted; everything it started is gone\n"


CLOSED = """
from lab.cli import main as command
def app(**_):
    print("x" * 100_000, flush=True)
command.app = app
command.main()
"""


def test_a_reader_that_closed_the_pipe_is_no_success():
    """The verdict was not told, and with `pipefail` the status is all that is left of a fail."""
    with subprocess.Popen([sys.executable, "-c", CLOSED], stdout=subprocess.PIPE) as ran:
        assert ran.stdout
        ran.stdout.close()
        assert ran.wait(20) == 128 + signal.SIGPIPE
