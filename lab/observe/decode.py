"""From captures to events: logins, discoveries, logouts, Async Messages, claims to addresses."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.commands import require
from lab.errors import CommandFailed
from lab.observe.conversation import Conversations
from lab.observe.packet import FIELDS, Packet, parse
from lab.timeline import Event

WANTED = "arp or icmpv6.type == 136 or iscsi.opcode in {0x03, 0x04, 0x06, 0x23, 0x24, 0x32}"
WANTED += " or tcp.flags.fin == 1 or tcp.flags.reset == 1"
LATE = "tcp.len > 0 and (tcp.analysis.out_of_order or tcp.analysis.retransmission)"
"""A segment that was captured, or captured first, after one that follows it in the stream."""
IN_ORDER = ("-o", "tcp.reassemble_out_of_order:TRUE")
SERVED = " or iscsi.opcode in {0x21, 0x25, 0x31}"
"""A target's answers to SCSI commands: SCSI Response, Data-In, R2T (RFC 7143 section 11.2.1.2)."""


def decode(
    captures: Mapping[str, Path],
    hosts: Mapping[str, str] | None = None,
    *,
    ports: Sequence[int] = (3260,),
    seconds: float = 60.0,
    served: bool = False,
) -> list[Event]:
    """The events in `captures` (place -> pcap file, one interface each), sorted by time.

    `hosts` maps an initiator's address to its name, which becomes `where`; an unknown address is
    its own name. A login captured at several places is one event; a claim to an address is one
    event at each place. `served`: also decode answers to SCSI commands, which needs short full
    captures. All files are read at once. Raises Missing if tshark is not installed, CommandFailed
    if it cannot read a file or takes more than `seconds`.
    """
    places = list(captures)
    talk = Conversations(hosts or {})
    for packet in _packets(list(captures.values()), ports, seconds, served):
        talk.see(packet, places[packet.interface])
    return talk.events()


def _packets(
    files: Sequence[Path], ports: Sequence[int], seconds: float, served: bool
) -> list[Packet]:
    """The packets of `files` as tshark decodes them, merged by time.

    By default tshark skips late segments. With reordering it skips what follows a missing segment,
    and control captures miss most segments. So if any segment is late, decode both ways.
    """
    wanted = WANTED + SERVED * served
    read = ["-o", f"iscsi.target_ports:{','.join(map(str, ports))}", "-Y"]
    packets = _tshark(files, [*read, f"{wanted} or ({LATE})"], seconds)
    found = {packet.number("frame.number"): packet for packet in packets}
    if any(
        p.one(f"tcp.analysis.{how}") for p in packets for how in ("out_of_order", "retransmission")
    ):
        for packet in _tshark(files, [*IN_ORDER, *read, wanted], seconds):
            number = packet.number("frame.number")
            if number not in found or not found[number].one("iscsi.opcode"):
                found[number] = packet
    return [found[number] for number in sorted(found)]


def _tshark(files: Sequence[Path], options: Sequence[str], seconds: float) -> list[Packet]:
    mergecap = require("mergecap", "wireshark-common")
    tshark = require("tshark", "tshark")
    if not files:
        return []
    # Without -I none, mergecap would fold interfaces that look alike into one.
    merge = [mergecap, "-I", "none", "-w", "-", *map(str, files)]
    read = [tshark, "-r", "-", "-n", *options, "-T", "fields", "-E", "aggregator=\x1f"]
    read += [part for field in FIELDS for part in ("-e", field)]
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(merge, stdout=subprocess.PIPE, stderr=complaints) as merging,
        subprocess.Popen(
            read, stdin=merging.stdout, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as reading,
    ):
        assert merging.stdout
        # Only tshark holds the pipe now: if tshark ends early, mergecap ends too and does not wait.
        merging.stdout.close()
        try:
            out, errors = reading.communicate(timeout=seconds)
            merged = merging.wait(seconds)
        except subprocess.TimeoutExpired:
            raise CommandFailed("this machine", read, None, "") from None
        finally:
            for process in (reading, merging):
                if process.poll() is None:
                    process.kill()
        complaints.seek(0)
        said = complaints.read().decode(errors="replace")
    unheard = merged == -signal.SIGPIPE
    if merged and not unheard:
        raise CommandFailed("this machine", merge, merged, said)
    if reading.returncode or unheard:
        text = errors.decode(errors="replace").strip() or "it ended too early" * unheard
        raise CommandFailed("this machine", read, reading.returncode, text)
    return [parse(line) for line in out.decode(errors="replace").split("\n") if line]
