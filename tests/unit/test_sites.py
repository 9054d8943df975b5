"""Where arrays are, and what serves in front of them: no root needed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from lab.array.site import GuestSite, Site
from lab.commands import LocalRunner
from lab.errors import BadInput, LabError
from lab.guest.seed import guest_packages
from lab.observe import GuestAddressWatcher
from lab.timeline import Timeline
from targets import engines
from targets.base import LogicalUnit, TargetSpec
from targets.front.native import NativeFront
from targets.lio.engine import Lio

TARGET = TargetSpec("iqn.2024-01.lab.a1:disk", (LogicalUnit(1, Path("/d"), 1 << 20, "a1", "SN1"),))


class Said:
    """Notes every call of its methods."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def __getattr__(self, name):
        return lambda *given, **more: self.calls.append((name, *given, *more.values()))


def test_a_file_is_replaced_as_a_whole(tmp_path):
    site = Site(LocalRunner("a1"), tmp_path / "a")
    path = site.put("b/c.json", "one\n")
    inode = path.stat().st_ino
    assert site.put("b/c.json", 'it\'s "two"\n') == path == tmp_path / "a/b/c.json"
    assert path.read_text() == 'it\'s "two"\n'
    assert path.stat().st_ino != inode
    assert [p.name for p in path.parent.iterdir()] == ["c.json"]
    site.put_away("b", "never-there")
    assert list((tmp_path / "a").iterdir()) == []


def test_a_module_runs_alone(tmp_path):
    site = Site(LocalRunner("a1"), tmp_path)
    heard: list[str] = []
    process = site.start_module(
        "targets.front.service", "none", log=tmp_path / "log", on_line=heard.append
    )
    assert process.wait(10) == 1
    assert "FileNotFoundError" in (tmp_path / "log").read_text()
    assert heard == []


def test_a_guest_gets_what_runs_there():
    files = GuestSite.programs()
    assert {
        "lab/errors.py", "lab/controller/__main__.py", "targets/front/service.py", "targets/pdu.py",
        "targets/lio/agent.py",
    } <= files.keys()  # fmt: skip
    assert not [name for name in files if "scenarios" in name]
    assert guest_packages("targets")["targets/pdu.py"] == files["targets/pdu.py"]


def test_addresses_of_a_guest(tmp_path):
    timeline = Timeline()
    watcher = GuestAddressWatcher(timeline, LocalRunner("a1"), {"p1": "left"}, tmp_path / "log")
    for line in (
        "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever",
        "3: p1    inet 10.0.0.11/24 scope global noprefixroute p1\\       valid_lft forever",
        "[2026-11-22T08:31:03.250000] 4: p2    inet6 fd00::12/64 scope global nodad \\    valid",
        "[2026-11-22T08:31:04.500000] Deleted 3: p1    inet 10.0.0.11/24 scope global p1\\    v",
        "[2026-11-22T08:31:05.000000] 4: p2    inet6 fd00::12/64 scope global nodad \\    again",
        "[2026-11-22T08:31:05.000000] 1: lo    inet 192.0.2.1/32 scope global lo\\    our mark",
        "2: mgmt0    inet 169.254.0.2/30 scope link mgmt0\\       valid_lft forever",
        "[2026-11-22T08:31:06.000000] something else",
    ):
        watcher._hear(line)
    seen = [(e["where"], e["address"], e["op"]) for e in timeline.events("address")]
    assert sorted(seen) == [
        ("left", "10.0.0.11", "add"), ("left", "10.0.0.11", "del"), ("p2", "fd00::12", "add")
    ]  # fmt: skip
    told = [e["t"] for e in timeline.events("address", "p2")]
    assert told == [1795336263.25]
    watcher.lost()
    assert timeline.events("address")[-1]["op"] == "del"


def test_engines_are_found_by_name(tmp_path):
    assert not engines.find("tgt").own_kernel
    assert engines.find("lio").own_kernel
    with pytest.raises(BadInput, match="no target 'ietd'; there are tgt, lio"):
        engines.find("ietd")
    with pytest.raises(BadInput, match="tgt keeps disks in files only"):
        engines.find("tgt").make(Site(LocalRunner("a1"), tmp_path), tmp_path, "file-lying")
    with pytest.raises(BadInput, match="LIO has block, file-write-back"):
        Lio(SimpleNamespace(), tmp_path, "tape")


def test_lio_that_does_not_run_says_so(tmp_path):
    engine = Lio(SimpleNamespace(), tmp_path)
    with pytest.raises(LabError, match="lio: does not run"):
        engine.expose("10.0.0.1")
    engine.stop()


def test_a_native_front_that_died_is_told_the_latest_when_it_starts_again():
    class Mortal(Said):
        running = True

        def redirect(self, *given, permanent):
            if not self.running:
                raise LabError("no answer")
            self.calls.append(("redirect", *given, permanent))

    engine = Mortal()
    front = NativeFront(engine, {})
    front.steer(None, "10.0.0.11")
    front.start(["10.0.0.1"], [TARGET], "127.0.0.1:3260")
    engine.running = False
    front.steer(None, "10.0.0.12")
    engine.running, engine.calls = True, []
    front.restart()
    assert engine.calls == [
        ("stop",),
        ("start",),
        ("create", TARGET),
        ("redirect", TARGET.iqn, "10.0.0.12", False),
        ("expose", "10.0.0.1"),
    ]


def test_the_answer_of_a_native_front_is_there_before_it_listens():
    engine = Said()
    front = NativeFront(engine, {"DefaultTime2Wait": "0"})
    front.steer(None, "10.0.0.11")
    front.start(["10.0.0.1"], [TARGET], "127.0.0.1:3260")
    front.steer(None, "10.0.0.11")
    front.steer(None, "10.0.0.12")
    front.steer(None, "10.0.0.12", permanent=True)
    front.steer(None, None)
    assert engine.calls == [
        ("start",),
        ("create", TARGET),
        ("set_parameter", TARGET.iqn, "DefaultTime2Wait", "0"),
        ("redirect", TARGET.iqn, "10.0.0.11", False),
        ("expose", "10.0.0.1"),
        ("redirect", TARGET.iqn, "10.0.0.12", False),
        ("redirect", TARGET.iqn, "10.0.0.12", True),
        ("redirect", TARGET.iqn, None, False),
    ]
    assert front.steering is None
