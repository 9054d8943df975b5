"""A scenario: root in every guest looks for what it can reach of the machine."""

import gc
import json
import os
import sys
from pathlib import Path

from lab.commands import LocalRunner
from lab.guest.kernel_host import KernelHost
from lab.run.scenario import scenario

PLACES = [
    *("/", "/proc/1/root", "/proc/self/root", "/proc/1/cwd", "/proc/self/cwd", "/work", "/luns"),
    *("/image", "/cages", "/root", "/home", "/etc", "/tmp", "/var", "/run", "/sys", "/dev", "/mnt"),
    *("/proc/1/root/root", "/proc/1/root/etc", "/proc/self/root/home", "/proc/self/root/var/tmp"),
    *("/proc/sys", "/proc/1/root/proc/1/root", "/work/../..", "/proc/self/fd"),
]
LOOK = r"""
mkdir -p /mnt/look
for place in "$@"; do
  mount -t hostfs none /mnt/look -o "hostfs=$place" 2>/dev/null || continue
  find /mnt/look -maxdepth 4 -path /mnt/look/proc -prune -o -print 2>/dev/null | head -n 120 |
  while read -r found; do
    [ -p "$found" ] || [ -S "$found" ] && continue
    [ -f "$found" ] && (: <"$found") 2>/dev/null && echo "r $place${found#/mnt/look}"
    [ -w "$found" ] && [ ! -h "$found" ] && echo "w $place${found#/mnt/look}"
  done
  (: </mnt/look/etc/shadow) 2>/dev/null && echo "r $place/etc/shadow"
  (: </mnt/look/shadow) 2>/dev/null && echo "r $place/shadow"
  umount /mnt/look
done
:
"""


def processes_of(group):
    """Of each process of a guest: what the machine's kernel says."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(path.name)) != group:
                continue
            lines = (path / "status").read_text().splitlines()
            yield {
                **dict(line.split(":\t", 1) for line in lines if ":\t" in line),
                "root": sorted(p.name for p in (path / "root").iterdir()),
                "shared": sorted(
                    kind.name
                    for kind in (path / "ns").iterdir()
                    if kind.readlink() == (Path("/proc/self/ns") / kind.name).readlink()
                ),
            }
        except (OSError, ValueError):
            continue


@scenario()
def looking_out(lab):
    """Root in every guest mounts hostfs, wherever it can."""
    lab.host().login()
    places = [*PLACES, str(lab.folder.path), str(Path.cwd()), str(Path(__file__).parent)]
    places += [f"/proc/1/root{place}" for place in places[-3:]]
    seen = {}
    for guest in [one for one in gc.get_objects() if isinstance(one, KernelHost)]:
        found = guest.runner.run(["sh", "-c", LOOK, "look", *places], seconds=100.0).output
        seen[guest.name] = {
            "found": found.splitlines(),
            "processes": [*processes_of(guest._process.pid)],
            "probe": probe(guest, lab.folder),
        }
    (lab.folder.logs / "seen.json").write_text(json.dumps(seen, indent=1))
    return []


def probe(guest, folder):
    """What a program that takes the kernel's place in the cage can do."""
    cage = getattr(guest, "_cage", None)
    if cage is None:
        return None
    argv = cage.argv(guest.pid, [str(folder.path), str(Path.home()), sys.executable])
    program = str(Path(__file__).with_name("cage_probe.py"))
    argv = [program if one.endswith("confine.py") else one for one in argv]
    said = []
    process = LocalRunner("probe").start(argv, log=folder.logs / "probe.log", on_line=said.append)
    assert process.wait(30.0) == 0, (folder.logs / "probe.log").read_text()
    return json.loads(said[-1])
