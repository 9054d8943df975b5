"""A load that is heavy rather than accounted for: several writers at once, of large blocks."""

from __future__ import annotations

from lab.errors import LabError
from lab.host.host import LabHost

OFFSET_MIB = 32
"""Where on the disk it writes: behind the accounted writers."""
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


def write_heavily(host: LabHost, seconds: int) -> None:
    """Write to the disk of `host` as fast as it goes for `seconds`, beside its accounted writer.

    What it came to is on the timeline (`heavy-load`). LabError if a write failed.
    """
    places = range(OFFSET_MIB, OFFSET_MIB + WRITERS * EACH_MIB, EACH_MIB)
    script = _WRITE % {
        "seconds": seconds, "places": " ".join(map(str, places)), "each": EACH_MIB,
        "device": host.session("heavy").device,
    }  # fmt: skip
    said = host.runner.run(["sh", "-c", script], seconds=seconds + 60.0).output.split()
    done = EACH_MIB * said.count("ok")
    host.lab.timeline.add(host.name, "heavy-load", mib=done, mib_per_s=round(done / seconds, 1))
    if "failed" in said:
        raise LabError(f"{host.name}: {said.count('failed')} of {WRITERS} heavy writers failed")
