"""The suite on real labs: in parallel, a failure with its promise, what is left after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

from test_sandbox import dead, started_by

from lab.suite.running import LAB
from lab.waiting import wait_for


def test_two_side_by_side_one_of_which_fails(lab_command, tmp_path):
    names = ("hidden-ports", "control-no-controller")
    chosen = [part for name in names for part in ("--scenario", name)]
    out = tmp_path / "suite"
    ran = lab_command("suite", "run", *chosen, "--jobs", "2", "--out", out, "--json")
    assert ran.status == 1, ran.err
    assert {o["id"].split(".")[0]: o["verdict"] for o in json.loads(ran.out)["outcomes"]} == {
        "hidden-ports": "pass", "control-no-controller": "fail"
    }  # fmt: skip
    cases = {c.get("name"): c for c in ET.parse(out / "junit.xml").iter("testcase")}
    (failed,) = [c for name, c in cases.items() if "control" in name]
    message = failed.find("failure").get("message")
    assert "stall_below(h1, 1000) fail: Longest gap" in message
    assert {"seed", "folder", "kernel", "stall_ms h1"} <= {
        p.get("name") for p in failed.iter("property")
    }
    runs = {p.name.split(".")[0]: p for p in (out / "cells").iterdir()}
    assert not (runs["hidden-ports"] / "pcap").exists()
    assert (runs["control-no-controller"] / "pcap").exists()
    again = lab_command("suite", "run", "--resume", out)
    assert again.status == 1, again.err
    tries = [json.loads(line)["id"].split(".")[0] for line in (out / "records.jsonl").open()]
    assert tries.count("hidden-ports") == 1
    assert tries.count("control-no-controller") == 2


def test_a_killed_suite_leaves_nothing_running(tmp_path):
    out = tmp_path / "suite"
    process = subprocess.Popen(
        [LAB, "suite", "run", "--scenario", "port-t*", "--scenario", "port-l*", "--jobs", "2",
         "--out", out],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(
            "a lab with its load",
            lambda: [
                p for p in Path(out).glob("cells/*/timeline.jsonl")
                if '"kind": "load"' in p.read_text(errors="replace")
            ],
            seconds=60,
        )  # fmt: skip
        everything = started_by(process.pid)
        assert len(everything) > 15
        os.kill(process.pid, signal.SIGKILL)
        process.wait(20)
        wait_for("every process to end", lambda: dead(everything), seconds=10)
    finally:
        process.kill()
        process.wait(20)


def commands(pids) -> dict[int, list[str]]:
    found = {}
    for pid in pids:
        try:
            found[pid] = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_a_killed_worker_takes_its_lab_with_it_and_the_cell_stays_open(tmp_path):
    out = tmp_path / "suite"
    process = subprocess.Popen(
        [LAB, "suite", "run", "--scenario", "port-takeover", "--scenario", "port-loss",
         "--jobs", "2", "--out", out],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        timeline = out / "cells" / "port-loss.tgt.open-iscsi.trixie" / "timeline.jsonl"
        wait_for(
            "its load",
            lambda: timeline.exists() and '"kind": "load"' in timeline.read_text(errors="replace"),
            seconds=60,
        )
        there = commands(started_by(process.pid))
        lab = min(pid for pid, argv in there.items() if "run" in argv and "port-loss" in argv)
        stat = Path(f"/proc/{lab}/stat").read_text()
        worker = int(stat.rpartition(")")[2].split()[1])
        assert worker != process.pid
        inside = started_by(lab) | {lab}
        os.kill(worker, signal.SIGKILL)
        wait_for("its lab to end", lambda: dead(inside), seconds=10)
        assert process.wait(90) == 4
    finally:
        process.kill()
        process.wait(20)
    ended = [json.loads(line)["id"] for line in (out / "records.jsonl").open()]
    assert ended == ["port-takeover.tgt.open-iscsi.trixie"]
