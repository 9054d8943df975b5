"""Examples of each verdict for the checks of requests, for test_checks.py."""

import copy

VIRTUAL, P1, P2 = "10.0.0.1", "10.0.0.11", "10.0.0.12"


def event(t, kind, where="h1", **details):
    return {"t": t, "where": where, "kind": kind, **details}


def login(t, portal, status="0x0000", to=None, where="h1"):
    wire = {"isid": "00023d000001", "source": "wire"}
    return (
        event(t, "login", where, portal=f"{portal}:3260", status=status, target_address=to) | wire
    )


def message(t, number=1, portal=P1, where="h1", parameters=(0, 1, 5), source="wire"):
    about = {"portal": f"{portal}:3260", "event": number, "parameters": [*parameters]}
    return event(t, "async", where, **about, source=source)


def logout(t, portal=P1):
    return event(t, "logout", portal=f"{portal}:3260", reason=0, source="wire")


def hung_up(t, by="array", portal=P1):
    return event(t, "hung-up", portal=f"{portal}:3260", by=by, how="fin", source="wire")


def without(events, number):
    return [copy.deepcopy(e) for at, e in enumerate(events) if at != number]


def changed(events, number, **details):
    return [{**e, **details} if at == number else e for at, e in enumerate(events)]


def connections(moment, **ports):
    return event(5, "connections", "a1", moment=moment, ports=ports)


AT_FIRST = [login(0, VIRTUAL, "0x0101", f"{P1}:3260"), login(0.1, P1)]
SENT_ON, LET_IN = login(3, VIRTUAL, "0x0101", f"{P2}:3260"), login(3.1, P2)
MOVED = [*AT_FIRST, message(1), logout(1.1), SENT_ON, LET_IN]
BACK = [
    message(11, portal=P2),
    logout(11.1, P2),
    login(13, VIRTUAL, "0x0101", f"{P1}:3260"),
    login(13.1, P1),
]
SECOND = [
    login(0, P1, where="h2"),
    message(4, where="h2"),
    login(6, VIRTUAL, "0x0101", f"{P2}:3260", where="h2"),
    login(6.1, P2, where="h2"),
]
WRITES = [event(2, "io", op="write", block=1, status="ok")]
IGNORED = [*AT_FIRST, message(1), *WRITES, hung_up(6.01), SENT_ON]
DROPPED = [*AT_FIRST, message(1, 2), hung_up(1.01), login(2.02, VIRTUAL, "0x0101", P1)]
ASTRAY = [*AT_FIRST, login(2, P1, "0x0101", "10.0.0.99:3260"), LET_IN]

EXAMPLES = {
    "asked_then_moved": (
        ("h1", VIRTUAL, {P1, P2}),
        {
            "pass": [MOVED, [*MOVED, *BACK]],
            "fail": [
                AT_FIRST,
                [*AT_FIRST, *MOVED[3:]],
                without(MOVED, 3),
                without(MOVED, 4),
                without(MOVED, 5),
                changed(MOVED, 2, source="relay"),
                changed(MOVED, 3, portal=f"{P2}:3260"),
                changed(MOVED, 4, status="0x0000"),
                changed(MOVED, 4, target_address=f"{P1}:3260"),
                changed(MOVED, 4, target_address="10.0.0.99:3260"),
                changed(MOVED, 5, status="0x0301"),
                [*AT_FIRST, message(1), logout(1.1), login(3, P2)],
                [*AT_FIRST, message(1), SENT_ON, LET_IN, logout(4)],
                [*MOVED, BACK[0]],
                [*AT_FIRST, message(0.9), *MOVED[2:]],
            ],
            "unknown": [[], [message(1, where="h2")]],
        },
    ),
    "one_asked_at_a_time": (
        (2,),
        {
            "pass": [[*MOVED, *SECOND]],
            "fail": [
                MOVED,
                AT_FIRST,
                [*MOVED, changed(SECOND, 1, t=2)[1]],
                [*MOVED[:4], login(3, VIRTUAL, "0x0101", P1), *SECOND],
            ],
            "unknown": [[]],
        },
    ),
    "dropped_after_grace": (
        ("h1", 5),
        {
            "pass": [IGNORED],
            "fail": [
                AT_FIRST,
                without(IGNORED, 4),
                changed(IGNORED, 4, by="host"),
                changed(IGNORED, 4, t=5.5),
                changed(IGNORED, 4, t=9),
                [*IGNORED, logout(3)],
            ],
            "unknown": [[], without(IGNORED, 3)],
        },
    ),
    "drop_announced": (
        ("h1", VIRTUAL, 2),
        {
            "pass": [DROPPED],
            "fail": [
                AT_FIRST,
                changed(DROPPED, 2, event=3),
                without(DROPPED, 3),
                without(DROPPED, 4),
                changed(DROPPED, 3, by="host"),
                changed(DROPPED, 4, t=1.2),
                changed(DROPPED, 4, t=5),
            ],
            "unknown": [[]],
        },
    ),
    "came_back_to": (
        ("h1", VIRTUAL),
        {
            "pass": [MOVED],
            "fail": [MOVED[:4], without(MOVED, 4)],
            "unknown": [[], AT_FIRST],
        },
    ),
    "logins_sent_to": (
        ("h1", "10.0.0.99:3260"),
        {
            "pass": [ASTRAY],
            "fail": [MOVED, changed(ASTRAY, 2, status="0x0102")],
            "unknown": [[]],
        },
    ),
    "connection_counts": (
        ("there", "p1 0, p2 1"),
        {
            "pass": [[connections("there", p1=0, p2=1)]],
            "fail": [[connections("there", p1=1, p2=1)], [connections("there", p1=0)]],
            "unknown": [[], [connections("back", p1=0, p2=1)]],
        },
    ),
}
"""Check -> how it is called, then examples by verdict."""
