"""What a machine needs for labs, and how to install it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from lab import mininet_classes, sandbox
from lab.bench.methods import METHODS
from lab.errors import BadInput, Missing
from lab.guest import image as release
from lab.host.initiator import INITIATORS
from lab.mininet_classes import REMEDY
from targets.engines import ENGINES

PROGRAMS = {
    "mnexec": "mininet", "brctl": "bridge-utils", "ifconfig": "net-tools", "sysctl": "procps",
    "ip": "iproute2",
    "tgtd": "tgt", "tgtadm": "tgt", "tshark": "tshark", "mergecap": "wireshark-common",
}  # fmt: skip
"""Programs that labs start, and the Debian package of each."""
IMAGE_PROGRAMS = {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs"}
"""Programs that build images; needed only until the image is built."""


@dataclass(frozen=True)
class Finding:
    """One requirement and its `remedy`; only some options need it if `needed` is False."""

    what: str
    ok: bool
    remedy: str = ""
    needed: bool = True

    def as_json(self) -> dict[str, object]:
        """The finding as --json prints it."""
        return asdict(self)


def _program(name: str, package: str) -> Finding:
    there = shutil.which(name) is not None
    return Finding(f"{name} ({package})", there, f"sudo apt-get install {package}")


def _extras() -> list[Finding]:
    """What `make test` installs beside: the second initiator, and other ways to fail over."""
    found = [
        _kind(f"{name}, for --initiator {name}", _require_initiator, name)
        for name in INITIATORS
        if name != INITIATORS.default
    ]
    found += [
        _kind(f"{name}, for --target {name}", ENGINES.find, name)
        for name in ENGINES
        if name != ENGINES.default
    ]
    programs = {m.program: m.package for m in METHODS.values() if m.program not in PROGRAMS}
    for name, package in programs.items():
        one = _program(name, package)
        found.append(replace(one, what=f"{one.what}, for lab bench failover", needed=False))
    return found


def _require_initiator(name: str) -> None:
    INITIATORS.find(name).require()


def _kind(what: str, find: Callable[[str], object], name: str) -> Finding:
    """A target or initiator that only an option asks for, whose package may be broken."""
    try:
        find(name)
    except (Missing, BadInput) as reason:
        return Finding(what, False, str(reason), needed=False)
    return Finding(what, True, needed=False)


def _sandbox() -> Finding:
    """Try to make a sandbox in which nothing runs."""
    probe = "import sys; from lab import sandbox; sys.exit(sandbox.run(lambda: 0))"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=False
    )
    reason = done.stderr.strip().removeprefix("lab: ") or sandbox.HOW_TO_ALLOW
    return Finding("private namespaces", done.returncode == 0, reason)


def require_for_runs() -> None:
    """Raise Missing, with the list of all that is missing, unless labs can run here."""
    missing = [f for f in _programs() if not f.ok]
    if missing:
        lines = "; ".join(f"{f.what}: {f.remedy}" for f in missing)
        raise Missing(f"this machine lacks {lines}")


def _programs() -> list[Finding]:
    found = [_program(name, package) for name, package in PROGRAMS.items()]
    return [*found, Finding("mininet for Python", not mininet_classes.MISSING, REMEDY)]


def examine() -> list[Finding]:
    """All requirements in the order to install them; those of some options only come last."""
    builders = [_program(name, package) for name, package in IMAGE_PROGRAMS.items()]
    image = release.find(release.DEFAULT_RELEASE)
    return [
        *_programs(),
        *builders,
        _sandbox(),
        Finding(
            f"image of {release.DEFAULT_RELEASE}",
            image is not None,
            "lab image build (half a minute)",
        ),
        *_extras(),
    ]
