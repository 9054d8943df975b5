"""The command `lab`: it reads the arguments, calls what does the work, and prints the result."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from lab import scenarios
from lab.cli import doctor as machine
from lab.cli import live
from lab.cli.bench import bench_app
from lab.cli.options import Initiator, Json, Out, Release, Target
from lab.cli.selftest import selftest
from lab.cli.show import print_results, scenarios_table
from lab.cli.suite import compare, suite_app
from lab.errors import BadInput, LabError
from lab.folder import RUNS, stamp
from lab.guest import image as images
from lab.host.initiator import DEFAULT as DEFAULT_INITIATOR
from lab.run import run as runs
from lab.run.progress import Progress
from targets.engines import ABILITIES

app = typer.Typer(
    help="A network lab and regression suite for array-based failover with iSCSI.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
image_app = typer.Typer(help="The images that hosts boot from.", no_args_is_help=True)
app.add_typer(image_app, name="image")
app.add_typer(bench_app, name="bench")
app.add_typer(suite_app, name="suite")
app.command()(compare)
app.command()(selftest)

INTERRUPTED = 130
"""The exit code after Ctrl-C, as a shell has it: 128 and the signal's number."""
UNREAD = 128 + signal.SIGPIPE
"""The exit code where the reader of the output has gone: the verdict may not have been told."""
_DEMO = ("port-redirection", "port-takeover", "virtual-port-reassignment")
_out = Console(highlight=False)

Topology = Annotated[
    str | None, typer.Option("--topology", help="A name in topologies/, or a .py file.")
]
Seed = Annotated[
    int, typer.Option("--seed", help="Fixes content and order of the writes.", min=0, max=2**63)
]


@app.command("list")
def list_scenarios(as_json: Json = False) -> None:
    """List the scenarios."""
    known = [s for s in scenarios.catalogue().values() if s.listed]
    if as_json:
        rows = [
            {
                "name": s.name, "title": s.title, "topology": s.topology,
                "targets": s.targets, "needs": {n: ABILITIES[n] for n in s.needs},
                "initiators": s.initiators, "not_for": s.not_for,
            }
            for s in known
        ]  # fmt: skip
        print(json.dumps(rows, indent=1))
    else:
        _out.print(scenarios_table(known))


@app.command()
def run(
    names: Annotated[list[str], typer.Argument(help="Scenarios, or your own as FILE.py:name.")],
    release: Release = images.DEFAULT_RELEASE,
    topology: Topology = None,
    target: Target = None,
    out: Out = None,
    seed: Seed = 1,
    initiator: Initiator = DEFAULT_INITIATOR,
    as_json: Json = False,
) -> None:
    """Run scenarios. Exit codes: 0 pass, 1 fail, 2 bad input, 3 missing software, 4 unknown."""
    raise typer.Exit(_run(names, release, topology, target, out, seed, initiator, as_json))


@app.command()
def up(
    release: Release = images.DEFAULT_RELEASE,
    topology: Topology = None,
    target: Target = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Start a lab that stays up until `lab down`. Other terminals give it orders."""
    names = ["by-hand"]
    raise typer.Exit(_run(names, release, topology, target, out, 1, DEFAULT_INITIATOR, as_json))


live.add_to(app)


@app.command()
def demo(
    release: Release = images.DEFAULT_RELEASE,
    target: Target = None,
    out: Out = None,
    initiator: Initiator = DEFAULT_INITIATOR,
    as_json: Json = False,
) -> None:
    """Run three scenarios. They are redirection, port takeover, and virtual port reassignment."""
    raise typer.Exit(_run([*_DEMO], release, None, target, out, 1, initiator, as_json))


def _run(
    names: list[str],
    release: str,
    topology: str | None,
    target: str | None,
    out: Path | None,
    seed: int,
    initiator: str,
    as_json: bool,
) -> int:
    chosen = [scenarios.find(name) for name in names]
    machine.require_for_runs()
    began = stamp()
    plans: list[runs.Plan] = []
    results: list[dict[str, Any]] = []
    try:
        with Progress("image of " + release) as progress:
            for number, one in enumerate(chosen):
                folder = _folder(out, began, one.name, number, len(chosen))
                plans.append(
                    runs.plan(
                        one, out=folder, topology_name=topology, target=target,
                        release_name=release, seed=seed, initiator=initiator, say=progress.say,
                    )
                )  # fmt: skip
        for plan in plans:
            results.append({**runs.run(plan), "folder": str(plan.shown)})
    finally:
        # Show the runs that ended even if a later one fails; unused folders go away.
        for plan in plans[len(results) :]:
            runs.discard_unused(plan.folder)
        if results and as_json:
            print(json.dumps(results, indent=1))
        elif results:
            print_results(_out, results)
    return runs.exit_code(r["verdict"] for r in results)


def _folder(out: Path | None, began: str, name: str, number: int, count: int) -> Path:
    if out is None:
        several = f"{number + 1}-" if count > 1 else ""
        return RUNS / f"{began}-{several}{name}"
    return out if count == 1 else out / f"{number + 1}-{name}"


@app.command()
def doctor(as_json: Json = False) -> None:
    """Show what this machine lacks, and how to install it."""
    findings = machine.examine()
    if as_json:
        print(json.dumps([f.as_json() for f in findings], indent=1))
    else:
        for finding in findings:
            absent = "[red]missing[/]" if finding.needed else "[yellow]absent [/]"
            mark = "[green]ok     [/]" if finding.ok else absent
            _out.print(
                f"{mark} {escape(finding.what)}"
                + (f"\n        {escape(finding.remedy)}" if not finding.ok else "")
            )
    raise typer.Exit(0 if all(f.ok or not f.needed for f in findings) else 3)


@image_app.command("build")
def image_build(
    release: Annotated[
        str, typer.Argument(help="bookworm, trixie or forky.")
    ] = images.DEFAULT_RELEASE,
    fresh: Annotated[bool, typer.Option(help="Build it again with today's packages.")] = False,
) -> None:
    """Build the image of a release if it is not there yet."""
    with Progress(f"image of {release}") as progress:
        image = images.build(release, progress.say, fresh=fresh)
    size = sum(f.stat().st_blocks * 512 for f in image.path.rglob("*") if f.is_file())
    _out.print(f"{image.release}: {image.path}, {size >> 20} MiB on disk", soft_wrap=True)


@image_app.command("list")
def image_list(as_json: Json = False) -> None:
    """List the releases and the paths of their images."""
    found = {name: images.find(name) for name in images.RELEASES}
    if as_json:
        print(json.dumps({n: str(i.path) if i else None for n, i in found.items()}, indent=1))
    else:
        for name, image in found.items():
            _out.print(f"{name:9} {image.path if image else 'not built'}", soft_wrap=True)


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Write report.html of a run folder again."""
    from lab.report import write_report

    _out.print(str(write_report(folder)), soft_wrap=True)


def _check_working_directory() -> None:
    try:
        Path.cwd()
    except OSError as gone:
        raise BadInput(
            f"the working directory is gone ({gone.strerror}); cd to one that is there"
        ) from None


def main() -> None:
    """Run the command; every expected error becomes one message and an exit code."""
    os.umask(0o077)  # a run folder may hold what only its user may read
    if os.geteuid() != 0:
        # tgtd and brctl are in sbin, which Debian leaves out of an ordinary user's PATH.
        os.environ["PATH"] = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    try:
        _check_working_directory()
        status = app(standalone_mode=False)
        if status == INTERRUPTED:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
    except typer.TyperException as wrong:
        said = wrong.format_message()  # the help, for a group without a command
        print(said if said.startswith("Usage:") else f"lab: {said}", file=sys.stderr)
        status = BadInput.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("lab: interrupted; everything it started is gone", file=sys.stderr)
        status = INTERRUPTED
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        status = error.exit_code
    except BrokenPipeError:
        # The reader has closed the pipe. The interpreter must not complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = UNREAD
    except OSError as refused:
        print(f"lab: {refused}", file=sys.stderr)
        status = LabError.exit_code
    sys.exit(status if isinstance(status, int) else 0)
