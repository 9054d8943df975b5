"""Examples of each verdict for the checks of sessions, moves and kernels, for test_checks.py."""

from session_events import (
    CLOCK,
    CONFIG,
    CONSOLE,
    DISCOVERY,
    FAULT,
    LOGINS,
    LOST,
    MACS,
    MESSAGE,
    MOVE,
    NEW,
    P1,
    P2,
    P3,
    READ_BACK,
    SESSIONS,
    SPREAD,
    STEADY,
    VERIFIED,
    VIRTUAL,
    address,
    but,
    claim,
    event,
    io,
    kernels,
    load,
    login,
    session,
)

# factory -> how it is called, then examples by verdict.
EXAMPLES = {
    "session_survived": (
        ("h1",),
        {
            "pass": [SESSIONS],
            "fail": [
                but(SESSIONS, "session", 1, device="sdb"),
                but(SESSIONS, "session", 1, serial="other"),
                but(SESSIONS, "session", 1, size_bytes=5),
                but(SESSIONS, "session", 1, sid=2),
                but(SESSIONS, "session", 1, target="iqn.other"),
                but(SESSIONS, "session", 1, state="FAILED"),
                but(SESSIONS, "session", 1, disks=[{"lun": 2, "device": "sdb", "serial": "b"}]),
                but(SESSIONS, "session", 1, device=None),
            ],
            "unknown": [
                [],
                SESSIONS[:1],
                SESSIONS[1:],
                but(SESSIONS, "session", 1, serial=...),
                [session(1, "before", serial=None), session(2, "after", serial=None)],
            ],
        },
    ),
    "same_connection": (
        ("h1",),
        {
            "pass": [SESSIONS],
            "fail": [
                but(SESSIONS, "session", 1, connection=f"10.0.0.101:9 {P2}:3260"),
                but(SESSIONS, "session", 1, connection=None),
            ],
            "unknown": [
                [],
                SESSIONS[:1],
                but(SESSIONS, "session", 0, connection=None),
            ],
        },
    ),
    "no_lost_writes": (
        ("h1",),
        {
            "pass": [[*STEADY, *READ_BACK, VERIFIED]],
            "fail": [
                [*STEADY, {**VERIFIED, "lost": [LOST]}],
                [*STEADY, {**VERIFIED, "torn": [4]}],
                [{**VERIFIED, "torn": [4]}],
            ],
            "unknown": [
                [],
                STEADY,
                [VERIFIED],
                [*STEADY, {**VERIFIED, "blocks": 0}],
                [*STEADY, {**VERIFIED, "blocks": 8}],
                [*STEADY, *READ_BACK, {**io(3, block=1), "seq": 2}, VERIFIED],
                [*STEADY, *READ_BACK[1:], VERIFIED],
                [*load(0, 1), {**io(0.5, op="read"), "seq": 0}, VERIFIED],
            ],
        },
    ),
    "no_io_errors": (
        ("h1",),
        {
            "pass": [STEADY],
            "fail": [[*STEADY, io(0.95, "EIO")]],
            "unknown": [[], [io(1, host="h2")]],
        },
    ),
    "stall_below": (
        ("h1", 150),
        {
            "pass": [STEADY, [*STEADY, io(0.45, "EIO")]],
            "fail": [
                [e for e in STEADY if e["t"] != 0.5],
                [*load(0, 1), *[io(n / 10) for n in range(3, 10)]],
                [*load(0, 1), *[io(n / 10) for n in range(1, 8)]],
                [*load(0, 1), *[io(n / 10, "EIO") for n in range(1, 10)]],
                [*load(0, None), io(0.1), io(0.5)],
                [*load(0, None), io(0.1), event(0.9, "h2", "fault", phase="begin")],
            ],
            "unknown": [[], load(0, 1), STEADY[2:], [*load(0, None), io(0.1), io(0.2)]],
        },
    ),
    "served_at": (
        ("h1", {P2, P3}, "after"),
        {
            "pass": [SESSIONS],
            "fail": [but(SESSIONS, "session", 1, current=f"{VIRTUAL}:3260")],
            "unknown": [[], SESSIONS[:1]],
        },
    ),
    "redirected_at_login": (
        ("h1", VIRTUAL, {P2, P3}),
        {
            "pass": [LOGINS, [*LOGINS, *SESSIONS]],
            "fail": [
                [login(0.1, status="0x0000", to=None), *SESSIONS],
                [login(0.1, status="0x0102"), *SESSIONS],
                [login(0.1, to=f"{P1}:3260"), *SESSIONS],
                [login(0.1, to=None), *SESSIONS],
                [*LOGINS, session(1, "before", current=f"{VIRTUAL}:3260")],
            ],
            "unknown": [
                [],
                SESSIONS,
                LOGINS[:1],
                [login(0.1, status=None, to=None)],
                [login(0.1, host="h2")],
            ],
        },
    ),
    "login_answered": (
        ("h1", VIRTUAL, "0x0000"),
        {
            "pass": [[login(0.1, status="0x0000", to=None)]],
            "fail": [LOGINS, [login(0.1, status="0x0000", to=None), login(0.2)]],
            "unknown": [[], LOGINS[1:], [login(0.1, host="h2")]],
        },
    ),
    "same_disk": (
        ("h1", "h2"),
        {
            "pass": [SPREAD],
            "fail": [
                but(SPREAD, "session", 1, serial="other"),
                but(SPREAD, "session", 1, size_bytes=5),
                [*SPREAD, session(2, "after", "h2", serial="other")],
            ],
            "unknown": [[], SESSIONS],
        },
    ),
    "discovery_hides_ports": (
        ("h1", VIRTUAL),
        {
            "pass": [[DISCOVERY]],
            "fail": [
                [{**DISCOVERY, "portals": [f"{VIRTUAL}:3260", f"{P2}:3260"]}],
                [{**DISCOVERY, "portals": [f"{P2}:3260"]}],
                [{**DISCOVERY, "portals": []}],
                [DISCOVERY, {**DISCOVERY, "kind": "discovery-wire", "portals": [P1, VIRTUAL]}],
            ],
            "unknown": [[], [{**DISCOVERY, "where": "h2"}]],
        },
    ),
    "one_owner_of_virtual_address": (
        (),
        {
            "pass": [MOVE, MOVE[:2]],
            "fail": [
                [CONFIG, address(0, "p1"), address(5, "p2"), address(5.001, "p1", "del")],
                [CONFIG, address(0, "p1"), address(5, "p2")],
                [*MOVE, claim(6, "02:00:00:00:00:66")],
                [*MOVE, claim(6, "02:00:00:00:00:66", "arp-claim")],
                [*MOVE, claim(6, MACS["p3"], "arp-claim")],
                [CLOCK, CONFIG, address(0, "p1"), address(5, "p2"), address(5.002, "p1", "del")],
            ],
            "unknown": [
                [CLOCK, CONFIG, address(0, "p1"), address(5, "p2"), address(5.001, "p1", "del")],
                [],
                MOVE[1:],
                [CONFIG],
                [{**CONFIG, "macs": {}}, *MOVE[1:]],
                but(MOVE, "address", 0, source="controller")[:2],
            ],
        },
    ),
    "moved_to": (
        (VIRTUAL, {"p2", "p3"}),
        {
            "pass": [MOVE],
            "fail": [MOVE[:2], MOVE[:3], [*MOVE, address(6, "p3")]],
            "unknown": [[], [CONFIG]],
        },
    ),
    "fenced_before_moved": (
        (),
        {
            "pass": [[address(1, "a"), event(2, "a", "power", what="fenced"), address(3, "b")]],
            "fail": [
                [address(1, "a"), address(3, "b"), event(4, "a", "power", what="fenced")],
                [address(1, "a"), address(2, "a", "del"), address(3, "b")],
                [
                    address(1, "a"),
                    event(2, "a", "power", what="fenced"),
                    address(3, "b"),
                    address(4, "a"),
                ],
            ],
            "unknown": [
                [],
                [address(1, "a"), address(1, "b", ip=P1)],
                [
                    event(0, "b", "clock", within_ms=1.5),
                    address(1, "a"),
                    address(3, "b"),
                    event(3.001, "a", "power", what="off"),
                ],
            ],
        },
    ),
    "new_login": (
        ("h1", VIRTUAL),
        {
            "pass": [NEW],
            "fail": [
                but(NEW, "login", 0, t=4),
                but(NEW, "login", 0, status="0x0300"),
                but(NEW, "login", 0, where="h2"),
                but(NEW, "session", 0, state="FREE"),
            ],
            "unknown": [[], [FAULT, NEW[2]], NEW[:2]],
        },
    ),
    "sessions_spread": (
        (),
        {
            "pass": [SPREAD],
            "fail": [
                [*SPREAD, session(1, "before", "h3", current=f"{P2}:3260")],
                [CONFIG, session(1, "before", current=f"{VIRTUAL}:3260")],
                [*SPREAD, address(0.5, "p1", ip=P1), address(0.5, "p1", ip=P2)],
            ],
            "unknown": [[], [CONFIG], SPREAD[1:], [CONFIG, session(1, "before", state="FAILED")]],
        },
    ),
    "kernel_quiet": (
        (),
        {
            "pass": [CONSOLE, [*CONSOLE, kernels("h1")], [kernels()]],
            "fail": [[*CONSOLE, MESSAGE], [MESSAGE], [kernels(), MESSAGE]],
            "unknown": [
                [],
                CONSOLE[:1],
                [*CONSOLE, event(0, "h2", "evidence", source="console", phase="begin")],
                [*CONSOLE, event(10, "h1", "evidence", source="console", phase="begin")],
                [*CONSOLE, kernels("h1", "a1")],
                [kernels("a1")],
                [kernels(), CONSOLE[0]],
            ],
        },
    ),
    "reached": (
        (),
        {
            "pass": [STEADY],
            "fail": [[*STEADY, event(9, "lab", "wait-timeout", what="a login", last="none")]],
            "unknown": [[]],
        },
    ),
}
