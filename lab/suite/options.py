"""The options of the suite: the same for `lab suite run` and for pytest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab.errors import BadInput
from lab.folder import RUNS, stamp
from lab.host import initiator as initiators
from lab.suite import records
from lab.suite.cells import Absent, Cell, Selection, choose, names, parse_shard, share, turns

_FILTERS = ("scenario", "family", "target", "initiator", "release", "topology")


def add(group: Any) -> None:
    """Add them to a group of pytest's options."""
    lists = {"family": "families", "target": "targets", "initiator": "initiators"}
    group.addoption("--scenario", dest="lab_scenario", action="append", default=[], metavar="GLOB")
    for name in ("family", "target", "initiator", "release"):
        what = lists.get(name, "releases")
        group.addoption(f"--{name}", dest=f"lab_{name}", default="", help=f"{what}, or all")
    group.addoption("--topology", dest="lab_topology", default="", metavar="FILE")
    group.addoption("--smoke", dest="lab_smoke", action="store_true", help="a few cells only")
    group.addoption("--repeat", dest="lab_repeat", type=int, default=1, help="times for each cell")
    group.addoption("--seed", dest="lab_seed", type=int, default=1, help="seed of the first turn")
    group.addoption("--shard", dest="lab_shard", default="1/1", metavar="PART/PARTS")
    group.addoption("--retry", dest="lab_retry", type=int, default=0, help="tries after a failure")
    group.addoption("--resume", dest="lab_resume", default="", metavar="FOLDER")
    group.addoption("--out", dest="lab_out", default="", metavar="FOLDER")
    group.addoption("--keep-mib", dest="lab_keep_mib", type=int, default=2048, metavar="MIB")
    group.addoption("--ktap", dest="lab_ktap", action="store_true", help="write suite.ktap too")


def selection(given: Any) -> Selection:
    """What the parsed options choose."""
    lists = {f: names(getattr(given, f"lab_{f}")) for f in _FILTERS[1:5]}
    return Selection(
        tuple(given.lab_scenario), lists["family"], lists["target"], lists["initiator"],
        lists["release"], given.lab_topology, given.lab_smoke, given.lab_repeat,
        parse_shard(given.lab_shard),
    )  # fmt: skip


def cells(given: Any) -> tuple[list[Cell], list[Absent]]:
    """The cells of these options, turns and shard, and those that do not exist."""
    chosen = selection(given)
    found, absent = choose(chosen)
    known = {kind: one["seconds"] for kind, one in records.durations().items()}
    mine = share(turns(found, chosen.repeat), known, *chosen.shard)
    if not mine:
        raise BadInput(f"--shard {given.lab_shard}: no cell is left for it; there are {len(found)}")
    return mine, absent


def suite(given: Any) -> records.Suite:
    """The suite that these options begin, or that --resume goes on with."""
    if given.lab_resume:
        if any(getattr(given, f"lab_{f}") for f in _FILTERS) or given.lab_out or given.lab_smoke:
            raise BadInput("--resume takes the cells of its folder; leave out filters and --out")
        found = records.read(Path(given.lab_resume).absolute())
        if not found.open():
            raise BadInput(f"{given.lab_resume}: every cell has passed; nothing is left to resume")
        return found
    mine, absent = cells(given)
    for name in dict.fromkeys(cell.initiator for cell in mine):
        initiators.find(name).require()
    folder = Path(given.lab_out or RUNS / f"{stamp()}-suite").absolute()
    return records.make(folder, mine, absent, given.lab_seed)
