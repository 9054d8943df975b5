"""An ordinary user of this machine, for tests that root runs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
LAB = Path(sys.executable).with_name("lab")
USER = 54321


@dataclass(frozen=True)
class OrdinaryUser:
    """A user id that owns nothing but `home`: commands with `prefix` run as it."""

    home: Path
    prefix: list[str]
    environment: dict[str, str]


@contextlib.contextmanager
def ordinary_user(files: Sequence[Path] = ()) -> Iterator[OrdinaryUser]:
    """Skips the test if that user cannot read this checkout and `files`, or make namespaces."""
    if os.geteuid() != 0:
        pytest.skip("already run by an ordinary user")
    look = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    for path in [LAB, ROOT / "lab" / "cli" / "main.py", *files]:
        seen = subprocess.run([*look, "test", "-r", str(path)], check=False)
        if seen.returncode:
            pytest.skip(f"an ordinary user cannot read this checkout ({path})")
    probe = subprocess.run([*look, "unshare", "--user", "--net", "true"], check=False)
    if probe.returncode:
        pytest.skip("this machine lets ordinary users make no namespaces")
    home = Path("/var/tmp") / f"lab-test-{os.getpid()}"
    home.mkdir()
    try:
        os.chown(home, USER, USER)
        cache = os.environ.get("LAB_CACHE") or str(Path.home() / ".cache/failover-lab")
        readable = subprocess.run([*look, "test", "-x", cache], check=False).returncode == 0
        if not readable:
            linked = home / "cache"
            linked.mkdir()
            for image in Path(cache).glob("[a-z]*-*"):
                subprocess.run(["cp", "-r", str(image), str(linked)], check=True)
            cache = str(linked)
        settings = {"HOME": str(home), "LAB_CACHE": cache, "PATH": "/usr/bin:/bin"}
        yield OrdinaryUser(home, look, settings)
    finally:
        subprocess.run(["rm", "-rf", str(home)], check=True)
