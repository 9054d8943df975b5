"""Negative controls of the observers: labs that are whole, but whose evidence is cut.

What an observer did not see may have been anything. So the checks that need it must be unknown.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from lab.checks import Check, redirected_at_login, swaps_agree
from lab.commands import Runner
from lab.faults.heads import head, head_powered_off
from lab.run.control import blinds
from lab.run.lab import Lab
from lab.run.scenario import scenario
from lab.scenarios.heads import POLICY, lose_head
from lab.scenarios.identity import NEEDS_KERNEL
from lab.scenarios.loads import sharing
from lab.scenarios.promises import TAKEOVER_BUDGET_MS, under_load, undisturbed

OPEN_BUDGET_MS = 60_000.0
"""Longer than the run: a gap that is still open at the end of it is a stall by what was seen."""

# The words come on standard input, or the shell would find itself.
_KILL = r"""
read -r words
for process in /proc/[0-9]*; do
  if tr '\0' ' ' < "$process/cmdline" 2>&1 | grep -qF "$words"; then
    kill "-$1" "${process#/proc/}"
    found=yes
  fi
done
[ -n "$found" ]
"""
_CHANGES = """
awk 'BEGIN { for (i = 0; i < '"$1"'; i++) {
  print "addr add 192.0.2.1/32 dev lo"; print "addr del 192.0.2.1/32 dev lo" } }' | ip -batch -
"""
"""Twice as many notifications as its argument says."""
_MOST, _OF_IP = "20000", "2500"
"""More than the queue of our watcher holds, and than that of ip(8), which is 1 MiB (rtnl_open). A
guest takes more than 30 s for as many as ours."""
# Frames with the type of ARP, from nobody to nobody, and all zeros: no claim to any address.
_FRAMES = """
import socket, sys
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
out.bind((sys.argv[1], 0))
for _ in range(60000):
    out.send(bytes.fromhex("02000000000902000000000a0806") + bytes(46))
"""


def _signal(runner: Runner, name: str, words: str) -> None:
    """Send the signal `name` to the processes at `runner` that have `words` in their command."""
    runner.run(["sh", "-c", _KILL, "kill", name], stdin=f"{words}\n")


def _while_stopped(runner: Runner, argv: list[str]) -> None:
    """Run `argv` while this process, which empties the sockets of observers, is stopped."""
    script = 'pid=$1; shift; trap \'kill -CONT "$pid"\' EXIT; kill -STOP "$pid"; "$@"'
    runner.run(["sh", "-c", script, "sh", str(os.getpid()), *argv])


@scenario(
    needs=("power-cut",),
    control=blinds(
        "one_owner_of_virtual_address",
        cut="the watcher of addresses in an array's kernel is killed",
    ),
)
def control_watcher_killed(lab: Lab) -> Iterable[Check]:
    """The process that tells of addresses dies while the host writes."""
    h1 = under_load(lab)
    _signal(lab.array.runner, "KILL", "monitor address")
    h1.keeps_writing()
    h1.stop_and_verify()
    return undisturbed(h1.name, TAKEOVER_BUDGET_MS)


@scenario(
    needs=("power-cut",),
    control=blinds(
        "one_owner_of_virtual_address",
        cut="the queue of the watcher in an array's kernel overflows",
    ),
)
def control_watcher_overrun(lab: Lab) -> Iterable[Check]:
    """The process that tells of addresses is stopped for 5,000 changes of an address."""
    h1 = under_load(lab)
    _signal(lab.array.runner, "STOP", "monitor address")
    lab.array.runner.run(["sh", "-c", _CHANGES, "sh", _OF_IP])
    _signal(lab.array.runner, "CONT", "monitor address")
    h1.keeps_writing()
    h1.stop_and_verify()
    return undisturbed(h1.name, 10 * TAKEOVER_BUDGET_MS)


@scenario(
    needs=("kill",),
    control=blinds(
        "one_owner_of_virtual_address", cut="the queue of the watcher of addresses overflows",
        quick=True,
    ),
)  # fmt: skip
def control_notifications_lost(lab: Lab) -> Iterable[Check]:
    """The lab does not read for as long as 40,000 changes of an address take."""
    h1 = under_load(lab)
    _while_stopped(lab.array.runner, ["sh", "-c", _CHANGES, "sh", _MOST])
    h1.keeps_writing()
    h1.stop_and_verify()
    return undisturbed(h1.name, 10 * TAKEOVER_BUDGET_MS)


@scenario(
    control=blinds(
        "redirected_at_login",
        "one_owner_of_virtual_address",
        cut="the queue of a capture overflows",
        quick=True,
    )
)
def control_frames_lost(lab: Lab) -> Iterable[Check]:
    """The lab does not read for as long as 60,000 frames on the host's cable take."""
    h1 = under_load(lab)
    argv = [sys.executable, "-I", "-S", "-c", _FRAMES, lab.switch_end(h1.name)]
    _while_stopped(lab.switch, argv)
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        redirected_at_login(h1.name, lab.array.virtual, to=lab.array.data_addresses()),
        *undisturbed(h1.name, 10 * TAKEOVER_BUDGET_MS),
    ]


@scenario(
    control=blinds(
        "redirected_at_login", "one_owner_of_virtual_address", cut="a capture file is damaged"
    )
)
def control_capture_damaged(lab: Lab) -> Iterable[Check]:
    """The file with the host's frames is emptied while it is written."""
    h1 = under_load(lab)
    os.truncate(lab.folder.captures / f"{h1.name}.pcap", 0)
    h1.keeps_writing()
    h1.stop_and_verify()
    return [
        redirected_at_login(h1.name, lab.array.virtual, to=lab.array.data_addresses()),
        *undisturbed(h1.name, TAKEOVER_BUDGET_MS),
    ]


@scenario(not_for=NEEDS_KERNEL, control=blinds("kernel_quiet", cut="a console cannot be kept"))
def control_console_unread(lab: Lab) -> Iterable[Check]:
    """The log of a kernel's console cannot be written when that kernel prints a line."""
    h1 = under_load(lab)
    log = lab.folder.logs / f"{h1.name}-console.log"
    log.rename(log.with_suffix(".kept"))
    log.mkdir()
    h1.runner.run(["sh", "-c", "echo '<1>a line' > /dev/kmsg"])
    h1.keeps_writing()
    h1.stop_and_verify()
    return undisturbed(h1.name, TAKEOVER_BUDGET_MS)


@scenario(
    topology="two_heads",
    policy=POLICY,
    needs=("heads",),
    control=blinds("fenced_before_moved", cut="the clock of a head is not measured at the end"),
)
def control_clock_unknown(lab: Lab) -> Iterable[Check]:
    """head-power-cut, but the process that tells the other head's time dies."""
    home, other = (port.name for port in lab.array.spec.ports[:2])
    found = lose_head(lab, head_powered_off(lab, home))
    _signal(head(lab, other).site.runner, "KILL", "libc.adjtimex")
    return found


@scenario(
    not_for=NEEDS_KERNEL,
    control=blinds(
        "no_lost_writes", "no_io_errors", "stall_below",
        cut="the load dies and reports no end", quick=True,
    ),
)  # fmt: skip
def control_load_killed(lab: Lab) -> Iterable[Check]:
    """The program that writes to the disk is killed."""
    h1 = under_load(lab)
    _signal(h1.runner, "KILL", "/run/lab/writer.py")
    lab.observe_for(0.5)
    h1.session("after")
    return undisturbed(h1.name, OPEN_BUDGET_MS)


@scenario(
    hosts=2,
    needs=("compare-and-write",),
    not_for=NEEDS_KERNEL,
    control=blinds("swaps_agree", cut="the program that swaps shared blocks dies"),
)
def control_swaps_killed(lab: Lab) -> Iterable[Check]:
    """The program by which a host swaps blocks that it shares with another is killed."""
    (h1, h2), (first, _) = sharing(lab)
    _signal(h2.runner, "KILL", "/run/lab/slots.py")
    first.stop()
    first.read()
    h1.stop_and_verify()
    return [swaps_agree(), *undisturbed(h1.name, OPEN_BUDGET_MS)]
