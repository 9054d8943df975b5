"""Reading a LUN's file outside of every guest, after the run, to compare it with the history."""

from __future__ import annotations

import time
from pathlib import Path

from lab.guest.files.writer import BLOCK, held
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
                data = file.read(BLOCK).ljust(BLOCK, b"\0")  # a sparse file may end before
                found.append([block, held(data, block, writer.seed)])
    except OSError as refused:
        timeline.add(writer.name, "lun-file", what=f"{path.name}: {refused.strerror}")
        return
    timeline.add(writer.name, "lun-file", t=time.time(), file=path.name, found=found)
