"""A capture that the kernel had to drop frames of says so: loopback and a reader that stands."""

import socket
import threading

import pytest

from lab.errors import Missing
from lab.evidence import gaps
from lab.observe import Capture
from lab.timeline import Timeline


class Standing(Capture):
    """It reads nothing until it may."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.may = threading.Event()

    def _record(self):
        self.may.wait(20)
        super()._record()


@pytest.mark.parametrize("megabytes", [1, 30])
def test_lost_frames_are_told(tmp_path, megabytes):
    timeline = Timeline()
    capture = Standing({"p1": "lo"}, tmp_path, timeline=timeline, full=True)
    try:
        capture.__enter__()
    except Missing as missing:
        pytest.skip(str(missing))
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind(("127.0.0.1", 0))
        for _ in range(megabytes * 20):
            sender.sendto(bytes(50_000), receiver.getsockname())
    capture.may.set()
    capture.__exit__(None, None, None)
    found = [str(e["what"]) for e in gaps(timeline)]
    if megabytes == 1:
        assert found == []
    else:
        (gap,) = found
        assert "frames lost" in gap
