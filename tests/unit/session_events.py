"""Events of sessions, moves and kernels as a timeline has them, to make examples of."""

import copy

VIRTUAL, P1, P2, P3 = "10.0.0.1", "10.0.0.11", "10.0.0.12", "10.0.0.13"
IQN = "iqn.2026-01.example.lab:disk"
MACS = {"p1": "02:00:00:00:00:11", "p2": "02:00:00:00:00:12", "p3": "02:00:00:00:00:13"}


def event(t, where, kind, **details):
    return {"t": t, "where": where, "kind": kind, **details}


def but(events, kind, nth=0, **changes):
    """`events` with the nth event of `kind` changed; a value of `...` removes the key."""
    changed = copy.deepcopy(events)
    found = [e for e in changed if e["kind"] == kind][nth]
    for key, value in changes.items():
        if value is ...:
            del found[key]
        else:
            found[key] = value
    return changed


def session(t, moment, host="h1", **changes):
    about = {
        "target": IQN,
        "sid": 1,
        "current": f"{P2}:3260",
        "persistent": f"{VIRTUAL}:3260",
        "state": "LOGGED_IN",
        "device": "sda",
        "serial": "lab0001",
        "size_bytes": 1 << 20,
        "connection": f"10.0.0.101:51234 {P2}:3260",
        "moment": moment,
    }
    return event(t, host, "session", **{**about, **changes})


def io(t, status="ok", op="write", block=0, host="h1"):
    return event(t, host, "io", op=op, seq=1, block=block, start=t - 0.001, status=status)


def load(begin, end, host="h1"):
    return [
        event(t, host, "load", phase=phase, name="writer")
        for t, phase in ((begin, "begin"), (end, "end"))
        if t is not None
    ]


def login(t, portal=VIRTUAL, status="0x0101", to=f"{P2}:3260", host="h1"):
    return event(
        t,
        host,
        "login",
        portal=f"{portal}:3260",
        status=status,
        target_address=to,
        isid="00023d000001",
        source="wire",
    )


def address(t, port, op="add", ip=VIRTUAL):
    return event(t, port, "address", address=ip, op=op, source="kernel")


def claim(t, mac, kind="announcement", ip=VIRTUAL):
    return event(t, "h1", kind, address=ip, mac=mac, source="wire")


CONFIG = event(
    0, "lab", "config", virtual=[VIRTUAL], ports={"p1": [P1], "p2": [P2], "p3": [P3]}, macs=MACS
)
FAULT = event(5, "p2", "fault", name="carrier-loss", phase="begin")
SESSIONS = [session(1, "before"), session(9, "after")]
STEADY = [*load(0, 1), *[io(n / 10, block=n) for n in range(1, 10)]]
READ_BACK = [io(1.5, op="read", block=n) for n in range(1, 10)]
VERIFIED = event(2, "h1", "verified", blocks=9, lost=[], torn=[])
LOGINS = [login(0.1), login(0.2, P2, "0x0000", None)]
MOVE = [
    CONFIG,
    address(0, "p1"),
    address(5.01, "p1", "del"),
    address(5.02, "p2"),
    claim(5.03, MACS["p2"]),
]
DISCOVERY = event(0, "h1", "discovery", asked=f"{VIRTUAL}:3260", portals=[f"{VIRTUAL}:3260"])
SPREAD = [
    CONFIG,
    session(1, "before", "h1", current=f"{P1}:3260"),
    session(1, "before", "h2", current=f"{P2}:3260"),
]
NEW = [FAULT, login(6), session(7, "after")]
LOST = {"block": 3, "expected": 7, "found": 5}
CONSOLE = [
    event(0, "h1", "evidence", source="console", phase="begin"),
    event(9, "h1", "evidence", source="console", phase="end"),
]
MESSAGE = event(3, "h1", "kernel-message", line="BUG: unable to handle <page> fault")
# The clock of the kernel that p2 is a port of is that close to the lab's.
CLOCK = event(0, "p2", "clock", within_ms=1.5)


def kernels(*names: str):
    """The configuration of a lab where these have a kernel of their own."""
    return event(0, "lab", "config", kernels=[*names])
