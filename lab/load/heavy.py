"""A heavy load without records of its blocks: several writers of large blocks at once."""

from __future__ import annotations

from lab.commands import Runner
from lab.errors import LabError
from lab.timeline import Timeline

OFFSET_MIB = 32
"""Where on the disk it writes: behind the blocks of Writer."""
WRITERS, EACH_MIB = 8, 3
_WRITE = """\
until=$(($(date +%%s) + %(seconds)d))
for at in %(places)s; do
  while [ $(date +%%s) -lt $until ]; do
    dd if=/dev/zero of=/dev/%(device)s bs=1M count=%(each)d seek=$at oflag=direct 2>/dev/null &&
      echo ok || { echo failed; break; }
  done &
done
wait
"""


def write_heavily(runner: Runner, device: str, timeline: Timeline, seconds: int) -> None:
    """Write to the disk `device` ("sda") as fast as possible for `seconds`.

    `timeline` gets the total and the rate (`heavy-load`). Raises LabError if a write failed.
    """
    places = range(OFFSET_MIB, OFFSET_MIB + WRITERS * EACH_MIB, EACH_MIB)
    script = _WRITE % {
        "seconds": seconds, "places": " ".join(map(str, places)), "each": EACH_MIB,
        "device": device,
    }  # fmt: skip
    said = runner.run(["sh", "-c", script], seconds=seconds + 60.0).output.split()
    done = EACH_MIB * said.count("ok")
    timeline.add(runner.host, "heavy-load", mib=done, mib_per_s=round(done / seconds, 1))
    if "failed" in said:
        raise LabError(f"{runner.host}: {said.count('failed')} of {WRITERS} heavy writers failed")
