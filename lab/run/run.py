"""One run: a scenario in a sandbox of its own, judged, written to a run folder."""

from __future__ import annotations

import errno
import inspect
import json
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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
from lab.run.scenario import Scenario, check_fits
from lab.timeline import Timeline
from lab.topology import loading
from lab.topology.topology import ArrayTopo
from targets import engines

_SPARE_BYTES = 200 << 20


@dataclass(frozen=True)
class Plan:
    """What is to be run, checked and with all it needs, but nothing made of it yet."""

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
        """Its folder as a person names it: below the working directory if it is there."""
        path = self.folder.path
        return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def exit_code(verdicts: Iterable[str]) -> int:
    """0 if all pass, 1 if any failed, 4 if any is unknown or there is none."""
    found = set(verdicts)
    return 1 if "fail" in found else 0 if found == {"pass"} else 4


def make_folder(path: Path, need_bytes: int) -> Folder:
    """Make the run folder `path`.

    Raises BadInput if it cannot be made or is not empty, Missing if its disk has not `need_bytes`;
    what it made is then gone again.
    """
    new = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise BadInput(f"{path}: not empty; name a folder that is not there yet")
        folder = Folder(path.absolute())
        folder.work.mkdir()
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


def discard_folder(folder: Folder, whole: bool) -> None:
    """Take an unused run folder away again; itself too, if `whole`."""
    folder.work.rmdir()
    if whole:
        folder.path.rmdir()


def discard_unused(folder: Folder) -> None:
    """Take a run folder away that no run has written to."""
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
    initiators.find(initiator).require()
    disks = sum(lun.size_mib for one in topo.storage.targets for lun in one.luns) << 20
    new = not out.exists()
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


def run(plan: Plan) -> dict[str, Any]:
    """Run it in a sandbox and return what result.json says.

    Raises Missing where there can be no sandbox, KeyboardInterrupt when it was interrupted, and
    LabError when it ended without a result.
    """
    status = sandbox.run(lambda: _work(plan))
    if status == 130:
        raise KeyboardInterrupt
    result = plan.folder.path / "result.json"
    for kind in (Missing, BadInput):
        if status == kind.exit_code:
            raise kind(f"{plan.scenario.name}: the lab could not be built; see above")
    if status or not result.exists():
        raise LabError(f"{plan.scenario.name} ended (status {status}) without a result; see above")
    return dict(json.loads(result.read_text()))


def _work(plan: Plan) -> int:
    """The worker inside the sandbox: its exit status, with every error told."""
    try:
        _run_and_judge(plan)
    except LabError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except OSError as refused:
        print(f"{plan.folder.path}: {refused}", file=sys.stderr)
        lacking = refused.errno in (errno.ENOSPC, errno.EDQUOT)
        return Missing.exit_code if lacking else LabError.exit_code
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
            # Result and report are searched as well, so what is found comes into the next ones.
            seek_secrets(plan.folder.path, plan.policy.access.secrets, timeline)
            write_result(plan.folder.path, result | _judged(trouble, timeline, must))
            write_report(plan.folder.path)
        timeline.close()


def _judged(
    trouble: list[checks.Finding], timeline: Timeline, must: list[checks.Check]
) -> dict[str, Any]:
    """What result.json says of the findings."""
    findings = [*trouble, *checks.judge(timeline, must)]
    shown = [finding.as_json() for finding in findings]
    return {"verdict": str(checks.overall(findings)), "checks": shown}


def _act(
    scenario: Scenario, lab: Lab, timeline: Timeline, trouble: list[checks.Finding]
) -> list[checks.Check]:
    """Let the scenario act; what it says must hold, or `reached` if it did not get that far."""
    try:
        return list(scenario.act(lab))
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


def served(timeline: Timeline) -> dict[str, dict[str, str]]:
    """For each host and moment at which its session was looked at: the port and its address."""
    found: dict[str, dict[str, str]] = {}
    for event in timeline.events("session"):
        address = ip_of(event["current"])
        ports = "+".join(sorted(owners_at(timeline, address, event["t"]))) or "no port"
        found.setdefault(event["where"], {})[event["moment"]] = f"{ports} ({address})"
    return found


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write result.json in one step, so that nobody reads half of one."""
    fresh = path / ".result.json"
    fresh.write_text(json.dumps(result, indent=1) + "\n")
    fresh.replace(path / "result.json")
