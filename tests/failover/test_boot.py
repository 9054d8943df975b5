"""A kernel of the lab's that does not come as far as its init."""

import time

import pytest

from lab.errors import LabError
from lab.guest import kernel_host as guest
from lab.suite.net import guest_network


@pytest.fixture
def boots(monkeypatch):
    """How many boots fail is the first entry; the others are the boots so far."""
    seen, real = [0], guest.kernel_argv

    def argv(*args):
        seen.append(args)
        root = "root=/dev/none" if len(seen) - 1 <= seen[0] else "root=/dev/ubda"
        return [root if one.startswith("root=") else one for one in real(*args)]

    monkeypatch.setattr(guest, "kernel_argv", argv)
    return seen


def test_it_is_started_once_more(boots, tmp_path):
    boots[0] = 1
    (tmp_path / "work").mkdir()
    with guest_network(tmp_path / "work", tmp_path) as net:
        assert "linux" in net.array.run(["uname", "-a"]).output.lower()
    assert len(boots) == 1 + 2


def test_but_not_twice(boots, tmp_path, monkeypatch):
    """And what it said last is told, also where that is read after its end."""
    heard = guest.KernelHost._console

    def slowly(self, line):
        time.sleep(0.002)
        heard(self, line)

    monkeypatch.setattr(guest.KernelHost, "_console", slowly)
    boots[0] = 2
    (tmp_path / "work").mkdir()
    with (
        pytest.raises(LabError, match=r"did not boot: its kernel ended; (?s:.*)Unable to mount"),
        guest_network(tmp_path / "work", tmp_path),
    ):
        pass
    assert len(boots) == 1 + 2
