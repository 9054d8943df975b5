"""Reading a LUN's file outside of every guest, after the run, to compare it with the history."""

from __future__ import annotations

import time
from pathlib import Path

from lab.guest.files.writer import BLOCK, make, parse
from lab.load.writer import Writer
from lab.timeline import Timeline


def read_outside(writer: Writer, path: Path, timeline: Timeline) -> None:
    """Put on the timeline (`lun-file`) what each block that `writer` wrote holds in the file.

    `found` is a list of [block, number of its write], or a word as the writer's own reads have.
    The array must have stopped. An event with `what` says why the file could not be read.
    """
    found: list[list[int | str]] = []
    try:
        with path.open("rb") as file:
            for block in writer.acknowledged_blocks():
                file.seek(block * BLOCK)
                found.append([block, _held(file.read(BLOCK), block, writer.seed)])
    except OSError as refused:
        timeline.add(writer.name, "lun-file", what=f"{path.name}: {refused.strerror}")
        return
    timeline.add(writer.name, "lun-file", t=time.time(), file=path.name, found=found)


def _held(data: bytes, block: int, seed: int) -> int | str:
    if len(data) < BLOCK:
        return "blank"  # a sparse file may end before its last block
    held = parse(data)
    if isinstance(held, str):
        return held
    if held[1] != block:
        return "misplaced"
    return held[0] if data == make(seed, *held) else "another writer's"
