"""The text of a report."""

from __future__ import annotations

from typing import Any

from lab.checks import Verdict
from lab.report.run import Fault, Run
from lab.timeline import Event

MEANINGS = {
    Verdict.PASS: "Every check passed.",
    Verdict.FAIL: "At least one check failed.",
    Verdict.UNKNOWN: "Evidence is missing for at least one check.",
}
_NOT_TOLD = ("t", "where", "kind", "what", "detected_t", "acted_t")
MOST_STEPS = 30
MOST_FAULTS = 6
"""How many faults get a closer look in the report."""


def at_port(run: Run, portal: str, t: float) -> str:
    """`10.0.0.12 (p2)`, or the address alone if its port is not known."""
    port = run.port_at(portal, t)
    address = portal.removesuffix(":3260")
    return f"{address} ({port})" if port else address


def wire_text(run: Run, event: Event) -> str:
    """An event of the wire in a few words."""
    kind = event["kind"]
    if kind == "announcement":
        mac = str(event.get("mac")).lower()
        return f"{event['address']} announced at {run.macs.get(mac, mac)}"
    if kind == "logout":
        return f"{event['where']} logged out from {event.get('portal')}"
    if kind == "async":
        return f"{event['where']} got Async Message, event {event.get('event')}"
    asked, status = str(event["portal"]), event.get("status")
    if status is None:
        return f"{event['where']} tried to log in at {asked}, no answer"
    if status == "0x0000":
        return f"{event['where']} logged in at {at_port(run, asked, event['t'])}"
    if status.startswith("0x01"):
        to = at_port(run, str(event.get("target_address")), event["t"])
        return f"{event['where']} was redirected by {asked.removesuffix(':3260')} to {to}"
    return f"{event['where']} was refused at {asked} with {status}"


def controller_text(event: Event) -> str:
    """An event of the controller in a few words."""
    about = {k: v for k, v in event.items() if k not in _NOT_TOLD}
    details = " ".join(f"{k}={v}" for k, v in about.items())
    return f"{event.get('what')} {details}".strip()[:160]


def sentences(run: Run) -> list[str]:
    """What happened, in order, then the longest gap in I/O."""
    said = []
    for host in run.hosts:
        logins = [e for e in run.by_kind["login"] if e["where"] == host]
        early = [e for e in logins if not run.faults or e["t"] < run.faults[0].begin]
        said += [f"{wire_text(run, e)}." for e in early[:1]]
    for at, fault in enumerate(run.faults[:MOST_FAULTS]):
        until = run.faults[at + 1].begin if at + 1 < len(run.faults) else run.end
        begin = fault.begin - run.origin
        lasted = f" for {fault.end - fault.begin:.2f} s" if fault.end < run.end else ""
        said.append(f"At {begin:.2f} s: {fault.name} at {fault.where}{lasted}.")
        said += [
            f"{address} was up on {'+'.join(sorted(s.ports))} {(s.t - fault.begin) * 1000:.1f} ms "
            "after the fault."
            for address, states in run.owners.items()
            for s in states
            if fault.begin < s.t <= until and s.ports
        ]
        again = [e for e in run.by_kind["login"] if fault.begin < e["t"] <= until]
        said += [
            f"{wire_text(run, e)} {e['t'] - fault.begin:.2f} s after the fault." for e in again[:4]
        ]
    if len(run.faults) > MOST_FAULTS:
        said.append(f"{len(run.faults) - MOST_FAULTS} more faults followed.")
    worst = max(((g[0].ms, host) for host, g in run.gaps.items() if g), default=None)
    if worst:
        said.append(f"The longest gap in completed I/O was {_ms(worst[0])}.")
    elif not run.by_kind["io"]:
        said.append("No I/O was recorded.")
    return said


def figures(run: Run) -> list[tuple[str, str, str]]:
    """The figures at the top of the report: caption, figure, detail."""
    measures = run.result["measures"]
    found = []
    stalls = measures.get("stall_ms") or {}
    if stalls:
        host = max(stalls, key=lambda h: stalls[h])
        found.append(("Longest gap in I/O", _ms(stalls[host]), f"on {host}"))
    for host, segments in list(run.served.items())[:2]:
        ports = [s.port or s.address for s in segments]
        if ports:
            path = ports[0] if ports[0] == ports[-1] else f"{ports[0]} → {ports[-1]}"
            found.append((f"{host} served by", path, f"{segments[-1].address} at the end"))
    acked, lost = measures.get("acked_writes"), measures.get("lost_writes")
    if acked is not None:
        verified = "not read back" if lost is None else f"{lost:,} lost"
        found.append(("Writes acknowledged", f"{acked:,}", verified))
    errors = measures.get("io_errors")
    if errors is not None:
        found.append(("I/O errors", f"{errors:,}", "seen by the application"))
    moves = measures.get("address_move_ms") or {}
    if moves:
        found.append(("Address moved in", _ms(max(moves.values())), ", ".join(moves)))
    return found


def steps(run: Run, fault: Fault, until: float) -> list[dict[str, Any]]:
    """Events from `fault` to `until`, with times in ms after the fault began."""
    events = [(e["t"], "controller", controller_text(e)) for e in run.by_kind["controller"]]
    wire = [*run.by_kind["login"], *run.by_kind["logout"], *run.by_kind["async"], *run.announced]
    events += [(e["t"], "wire", wire_text(run, e)) for e in wire]
    events += [
        (e["t"], "kernel", f"{e['address']} {_OPS.get(e['op'], e['op'])} {e['where']}")
        for e in run.by_kind["address"]
    ]
    events += [
        (gap.end, host, f"I/O resumes after a gap of {_ms(gap.ms)}")
        for host, found in run.gaps.items()
        for gap in found[:1]
        if gap.start < until and gap.end > fault.begin
    ]
    within = sorted(e for e in events if fault.begin <= e[0] <= until)
    return [
        {"ms": f"{(t - fault.begin) * 1000:,.1f}", "who": who, "what": what}
        for t, who, what in within[:MOST_STEPS]
    ]


_OPS = {"add": "up on", "del": "removed from"}


def _ms(ms: float) -> str:
    return f"{ms / 1000:,.2f} s" if ms >= 1000 else f"{ms:.0f} ms" if ms >= 100 else f"{ms:.1f} ms"
