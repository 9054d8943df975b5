"""The `lab bench` commands."""

from __future__ import annotations

import json
from functools import partial
from typing import Annotated, Any

import typer
from rich.console import Console

from lab.array.policy import Probing
from lab.bench.harness import in_sandbox
from lab.cli import doctor as machine
from lab.cli.options import Json, Out, ProbeCount, ProbeInterval, Release
from lab.errors import BadInput
from lab.folder import RUNS, stamp
from lab.guest import image as images
from lab.run import run as runs
from lab.run.progress import Progress

bench_app = typer.Typer(help="Measurements, each against an alternative.", no_args_is_help=True)
_out = Console(highlight=False)


@bench_app.command("boot")
def bench_boot(
    release: Release = images.DEFAULT_RELEASE,
    trials: Annotated[int, typer.Option(help="Boots of each kind.", min=1)] = 10,
    as_json: Json = False,
) -> None:
    """Measure how fast a host boots, against its bare kernel."""
    from lab.bench import boot

    machine.require_for_runs()
    with Progress("bench boot") as progress:
        image = images.ensure(release, progress.say)
        progress.say(f"{4 * trials} boots")
        found = in_sandbox(lambda work: boot.measure(image, work, trials).as_json())
    if as_json:
        print(json.dumps(found, indent=1))
        return
    for name, seconds in found["median_s"].items():
        _out.print(f"{name:10} {seconds:.3f} s")
    _out.print(f"ready / bare kernel until init: {found['ready_over_bare']:.2f}")


@bench_app.command("failover")
def bench_failover(
    trials: Annotated[int, typer.Option(help="Failovers of each method.", min=1)] = 10,
    method: Annotated[
        list[str] | None, typer.Option(help="Measure this method only; may be repeated.")
    ] = None,
    fault: Annotated[str, typer.Option(help="One of carrier, silent, power.")] = "carrier",
    probe_interval_ms: ProbeInterval = Probing.interval_ms,
    probe_count: ProbeCount = Probing.count,
    release: Release = images.DEFAULT_RELEASE,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Measure the stall when a port dies. Several failover methods take turns."""
    from lab.bench import failover, power, publish
    from lab.bench.methods import METHODS

    probing = Probing(probe_interval_ms, probe_count)
    machine.require_for_runs()
    folder = out or RUNS / f"{stamp()}-bench-failover"
    if fault == "power" and probing != Probing():
        raise BadInput("--fault power takes no --probe-interval-ms and no --probe-count")
    measure = power.run if fault == "power" else partial(failover.run, probing=probing)
    names = method or [*(power.METHODS if fault == "power" else METHODS)]
    run_folder = runs.make_folder(folder, 1 << 20)
    try:
        with Progress("bench failover") as progress:
            image = images.ensure(release, progress.say)
            found = measure(names, fault, trials, image, progress.say)
    except BaseException:
        runs.discard_unused(run_folder)
        raise
    chosen = "".join(f" --method {name}" for name in method or ())
    if probing != Probing():
        chosen += f" --probe-interval-ms {probe_interval_ms:g} --probe-count {probe_count}"
    found["command"] = f"lab bench failover --fault {fault} --trials {trials}{chosen}"
    table = publish.write(folder, found)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        _out.print(table, soft_wrap=True)
        _out.print(f"{folder}/cdf.svg", soft_wrap=True)


@bench_app.command("relay")
def bench_relay(
    rounds: Annotated[int, typer.Option(help="Rounds, each direct and relayed.", min=1)] = 15,
    as_json: Json = False,
) -> None:
    """Measure the relay against the direct path. Exit 1 if its throughput is too low."""
    from lab.bench import relay

    with Progress("bench relay") as progress:
        progress.say(f"{rounds} rounds of reads and writes")
        found = in_sandbox(lambda work: relay.measure(work, rounds=rounds))
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        _out.print(relay.summary(found), soft_wrap=True)
    raise typer.Exit(0 if found["ok"] else 1)


def _print_checks(found: dict[str, Any]) -> None:
    for check in found["checks"]:
        _out.print(f"{check['verdict']:8} {check['evidence']}", soft_wrap=True, markup=False)


@bench_app.command("endurance")
def bench_endurance(
    count: Annotated[int, typer.Option(help="Failovers in a row.", min=1)] = 200,
    release: Release = images.DEFAULT_RELEASE,
    as_json: Json = False,
) -> None:
    """Fail over many times under load. Exit 1 if data is lost or the controller grows."""
    from lab.bench import endurance

    machine.require_for_runs()
    with Progress("bench endurance") as progress:
        image = images.ensure(release, progress.say)
        found = in_sandbox(lambda work: endurance.run(image, work, count, progress.say))
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        _print_checks(found)
        _out.print(f"stall_ms: {found['stall_ms']}", soft_wrap=True)
    raise typer.Exit(runs.exit_code([found["verdict"]]))


@bench_app.command("alarms")
def bench_alarms(
    minutes: Annotated[float, typer.Option(help="Duration.", min=0.2)] = 10.0,
    probe_interval_ms: ProbeInterval = Probing.interval_ms,
    probe_count: ProbeCount = Probing.count,
    release: Release = images.DEFAULT_RELEASE,
    as_json: Json = False,
) -> None:
    """Count the controller's false alarms on a busy machine. Exit 1 if there is any."""
    from lab.bench import alarms

    probing = Probing(probe_interval_ms, probe_count)
    machine.require_for_runs()
    with Progress("bench alarms") as progress:
        image = images.ensure(release, progress.say)
        found = in_sandbox(lambda work: alarms.run(image, work, minutes, probing, progress.say))
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        _out.print(f"{len(found['alarms'])} false alarms in {minutes:g} minutes")
        _print_checks(found)
    raise typer.Exit(runs.exit_code([found["verdict"]]))
