"""The fuzzer, in a process of its own; RELAY_FUZZ_COUNT=100000 for the long run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COUNT = int(os.environ.get("RELAY_FUZZ_COUNT", "4000"))
ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(60 + COUNT // 500)
def test_mutated_pdus_and_logins_harm_nobody_else():
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz_relay", "--count", str(COUNT)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50 + COUNT // 500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["pdus"] >= COUNT
    assert result["beside_rounds"] > 20
    # The run is about something: bytes were refused, logins succeeded, orders were carried out.
    seen = result["events"]
    for what in ("bad-pdu", "full-feature", "rule-corrupt", "rule-swallow", "async-sent"):
        assert seen.get(what, 0) >= COUNT // 2000, seen
