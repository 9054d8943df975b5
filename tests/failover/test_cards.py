"""The network cards of the lab's machines behave as real ones do."""

from lab.array.site import GuestSite
from lab.guest.seed import HOST_START
from lab.run.network import give_queues
from lab.suite.net import guest_network, namespace


def test_a_host_hands_frames_on_by_threads(tmp_path):
    """Else it forgets interrupts: see lab/guest/seed.py."""
    show = ["sh", "-c", "cd /sys/class/net; grep -H . */threaded; grep -h napi /proc/[0-9]*/stat"]
    work = tmp_path / "work"
    work.mkdir()
    with guest_network(work, tmp_path, f"{GuestSite.start}\n{HOST_START}") as net:
        said = net.array.run(show).output
    assert {"p1/threaded:1", "mgmt0/threaded:1"} <= set(said.split())
    threads = [line.split() for line in said.splitlines() if "(napi/" in line]
    assert [thread[18] for thread in threads] == ["-20", "-20"]  # nice, proc_pid_stat(5)


def test_a_port_has_a_queue():
    """Else TCP is told that a cable was pulled: see lab/run/lab.py."""
    with namespace("a1") as (runner, _):
        runner.run(["sh", "-c", "ip link add v0 type veth peer name v1; ip link set v0 up"])
        show = ["tc", "qdisc", "show", "dev", "v0"]
        assert "noqueue" in runner.run(show).output
        give_queues(runner, ["v0"])
        assert "pfifo " in runner.run(show).output
