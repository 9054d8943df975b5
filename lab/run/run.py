"""One run: act a scenario in its own sandbox, judge it, write the run folder."""

from __future__ import annotations

import errno
import inspect
import json
import os
import reprlib
import shutil
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from lab import checks, sandbox
from lab.array.access import seek_secrets
from lab.array.policy import Policy
from lab.checks.address import owners_at
from lab.errors import BadInput, LabError, Missing, WaitTimeout
from lab.folder import Folder
from lab.guest import image as release
from lab.host import initiator as initiators
from lab.portal import ip_of
from lab.report import write_report
from lab.run.lab import Lab, Setup
from lab.run.progress import Progress
from lab.run.scenario import Scenario, check_fits, place_of
from lab.timeline import Timeline
from lab.topology import loading
from lab.topology.topology import ArrayTopo
from targets import engines

_SPARE_BYTES = 200 << 20
_MOST_PORTS_OF_A_KERNEL = 8
"""Measured: with 9 a User-Mode Linux is ready after 20 s, with 12 not in time, with 20 never."""
_LONGEST_PATH = 4096 - 256
"""A path has at most 4095 bytes (PATH_MAX, include/uapi/linux/limits.h). 256 are for the files."""


@dataclass(frozen=True)
class Plan:
    """A checked run with all that it needs; only its folder is made."""

    scenario: Scenario
    topo: ArrayTopo
    topology_name: str
    image: release.Image
    folder: Folder
    seed: int
    command: str
    target: str = engines.DEFAULT
    initiator: str = initiators.DEFAULT
    policy: Policy = field(default_factory=Policy)

    @property
    def shown(self) -> Path:
        """Its folder for messages: relative to the working directory if below it."""
        path = self.folder.path
        return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def exit_code(verdicts: Iterable[str]) -> int:
    """0 if all pass, 1 if any failed, else 4: any is unknown, or there is none."""
    found = set(verdicts)
    return 1 if "fail" in found else 0 if found == {"pass"} else 4


def make_folder(path: Path, need_bytes: int) -> Folder:
    """Make the run folder `path`.

    Raises BadInput if it cannot be made or is not empty, Missing if its disk has less than
    `need_bytes` free. The folder is then removed again.
    """
    new = _is_new(path)
    try:
        if len(os.fsencode(path.absolute())) > _LONGEST_PATH:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        path.mkdir(0o700, parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise BadInput(f"{path}: not empty; name a folder that is not there yet")
        folder = Folder(path.absolute())
        folder.work.mkdir(0o700)
    except OSError as refused:
        raise BadInput(f"{path}: the run folder cannot be made: {refused.strerror}") from None
    free = shutil.disk_usage(path).free
    if free < need_bytes:
        discard_folder(folder, new)
        raise Missing(
            f"{path}: {free >> 20} MiB free, a run needs {need_bytes >> 20} MiB for its disks and "
            "logs; free some room or choose another --out"
        )
    return folder


def _is_new(path: Path) -> bool:
    try:
        return not path.exists()
    except OSError:  # such as a name that is too long
        return True


def discard_folder(folder: Folder, whole: bool) -> None:
    """Undo make_folder(); remove the run folder itself only if `whole`."""
    folder.work.rmdir()
    if whole:
        folder.path.rmdir()


def discard_unused(folder: Folder) -> None:
    """Remove the run folder if no run has written to it."""
    if [p.name for p in folder.path.iterdir()] == [folder.work.name]:
        discard_folder(folder, whole=True)


def plan(
    scenario: Scenario,
    *,
    out: Path,
    topology_name: str | None,
    target: str | None,
    release_name: str,
    seed: int,
    say: Callable[[str], None],
    initiator: str = initiators.DEFAULT,
) -> Plan:
    """Check everything that can be checked before a lab is built, and get the release image."""
    name = topology_name or scenario.topology
    topo = loading.topology(name)
    engine = target or next(iter(scenario.targets), None)
    check_fits(scenario, topo, name, engine, initiator)
    assert engine is not None  # or check_fits would have refused it
    _check_room(topo, engine)
    initiators.find(initiator).require()
    disks = sum(lun.size_mib for one in topo.storage.targets for lun in one.luns) << 20
    new = _is_new(out)
    folder = make_folder(out, disks + _SPARE_BYTES)
    try:
        image = release.ensure(release_name, say)
    except BaseException:
        discard_folder(folder, new)
        raise
    asked = scenario.asked_as or scenario.name
    policy = scenario.policy_for(topo)
    command = f"lab run {asked} --topology {name} --target {engine} --release {release_name}"
    command += f" --seed {seed} --initiator {initiator}"
    return Plan(scenario, topo, name, image, folder, seed, command, engine, initiator, policy)


def _check_room(topo: ArrayTopo, engine: str) -> None:
    """Raise BadInput if the array has more ports than a kernel of its own can have."""
    array = topo.storage
    inside = [port for port in array.ports if port.node == array.name]
    if engines.find(engine).own_kernel and len(inside) > _MOST_PORTS_OF_A_KERNEL:
        raise BadInput(
            f"{array.place}: {len(inside)} ports; with --target {engine} an array has room for "
            f"{_MOST_PORTS_OF_A_KERNEL}; leave some out"
        )


def run(plan: Plan) -> dict[str, Any]:
    """Run `plan` in a sandbox and return the content of result.json.

    Raises Missing if no sandbox can be made or the disk fills up, BadInput for bad input that only
    the running lab finds, KeyboardInterrupt if interrupted, LabError if it ended without a result.
    """
    with os.fdopen(os.memfd_create("told"), "w+", encoding="utf-8") as told:
        status = sandbox.run(lambda: _work(plan, told))
        told.seek(0)
        why = told.read()
    if status == 130:
        raise KeyboardInterrupt
    result = plan.folder.path / "result.json"
    for kind in (Missing, BadInput):
        if status == kind.exit_code:
            raise kind(why or f"{plan.scenario.name}: the lab could not be built; see above")
    if status or not result.exists():
        ended = f"{plan.scenario.name} ended (status {status}) without a result"
        raise LabError(f"{ended}: {why}" if why else f"{ended}; see above")
    return dict(json.loads(result.read_text()))


def _work(plan: Plan, told: TextIO) -> int:
    """The worker inside the sandbox. Returns its exit status; `told` gets the error, if any."""
    try:
        try:
            _run_and_judge(plan)
        except OSError as refused:
            if refused.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise LabError(f"{plan.shown}: {refused}") from None
            raise Missing(
                f"{plan.shown}: its disk is full; free some room or choose another --out"
            ) from None
    except LabError as error:
        told.write(str(error))
        told.flush()
        return error.exit_code
    return 0


def _run_and_judge(plan: Plan) -> None:
    """Act, judge, write. Raises Missing and BadInput; other LabErrors make the verdict unknown."""
    began, scenario = time.time(), plan.scenario
    timeline = Timeline(plan.folder.path / "timeline.jsonl")
    setup = Setup(
        plan.topo, plan.image, plan.policy, plan.target, plan.seed,
        full_capture=scenario.full_capture, initiator=plan.initiator,
    )  # fmt: skip
    must: list[checks.Check] = []
    trouble: list[checks.Finding] = []
    versions: dict[str, str] = {}
    with Progress(scenario.name) as progress:
        try:
            with Lab(setup, plan.folder, timeline, progress.say) as lab:
                versions = lab.versions()
                progress.say("running")
                must = _act(scenario, lab, timeline, trouble)
                progress.say("taking it down")
        except (Missing, BadInput):
            raise
        except LabError as error:
            trouble.append(checks.Finding("completed", checks.Verdict.UNKNOWN, str(error)))
        if timeline.failure:
            raise timeline.failure
        progress.say("judging")
        judged = _judged(trouble, timeline, must)
        result = {
            "scenario": scenario.name,
            "title": scenario.title,
            "description": scenario.description,
            "verdict": judged["verdict"],
            "topology": plan.topology_name,
            "target": plan.target,
            "initiator": plan.initiator,
            "release": plan.image.release,
            "versions": versions,
            "checks": judged["checks"],
            "measures": checks.measures(timeline),
            "served": served(timeline),
            "started": datetime.fromtimestamp(began, UTC).isoformat(timespec="milliseconds"),
            "duration_s": round(time.time() - began, 3),
            "seed": plan.seed,
            "policy": {"mode": plan.policy.mode, "redirect": plan.policy.redirect},
            "command": plan.command,
        }
        write_result(plan.folder.path, result)
        write_report(plan.folder.path)
        if plan.policy.access.secrets:
            # The search covers result and report too, so both are written again afterwards.
            seek_secrets(plan.folder.path, plan.policy.access.secrets, timeline)
            write_result(plan.folder.path, result | _judged(trouble, timeline, must))
            write_report(plan.folder.path)
        timeline.close()


def _judged(
    trouble: list[checks.Finding], timeline: Timeline, must: list[checks.Check]
) -> dict[str, Any]:
    """The verdict and the checks for result.json."""
    findings = [*trouble, *checks.judge(timeline, must)]
    shown = [finding.as_json() for finding in findings]
    return {"verdict": str(checks.overall(findings)), "checks": shown}


def _act(
    scenario: Scenario, lab: Lab, timeline: Timeline, trouble: list[checks.Finding]
) -> list[checks.Check]:
    """Let the scenario act. Returns its checks, or `reached` alone if it did not finish."""
    try:
        return _checks_of(scenario, scenario.act(lab))
    except WaitTimeout as late:
        timeline.add("lab", "wait-timeout", what=late.what, last=str(late.last))
    except BadInput:
        raise
    except LabError as error:
        trouble.append(checks.Finding("completed", checks.Verdict.UNKNOWN, str(error)))
    except Exception as bug:
        own = inspect.getsourcefile(scenario.act)
        frames = traceback.extract_tb(bug.__traceback__)
        where = next((f for f in reversed(frames) if f.filename == own), frames[-1])
        text = f"The scenario broke at {where.filename}:{where.lineno}: {type(bug).__name__}: {bug}"
        trouble.append(checks.Finding("completed", checks.Verdict.UNKNOWN, text))
    return [checks.reached()]


def _checks_of(scenario: Scenario, returned: object) -> list[checks.Check]:
    """The checks that a scenario returned; BadInput with its place if they are none."""
    if isinstance(returned, Iterable):
        found = list(returned)
        if all(callable(one) for one in found):
            return found
    raise BadInput(
        f"{place_of(scenario.act)}: scenario {scenario.name} must return a list of checks, such as "
        f'[no_lost_writes("h1")], not {reprlib.repr(returned)}'
    )


def served(timeline: Timeline) -> dict[str, dict[str, str]]:
    """For each host and recorded moment of its session: the serving port and its address."""
    found: dict[str, dict[str, str]] = {}
    for event in timeline.events("session"):
        address = ip_of(event["current"])
        ports = "+".join(sorted(owners_at(timeline, address, event["t"]))) or "no port"
        found.setdefault(event["where"], {})[event["moment"]] = f"{ports} ({address})"
    return found


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write result.json atomically, so that nobody reads half of it."""
    fresh = path / ".result.json"
    fresh.write_text(json.dumps(result, indent=1) + "\n")
    fresh.replace(path / "result.json")
