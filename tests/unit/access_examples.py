"""Examples of each verdict for the checks of who was let in, for test_checks.py."""

from request_examples import P1, VIRTUAL, changed, event, hung_up, login, without


def attempt(t, what="login", status=24, sessions=0, portal=VIRTUAL):
    return event(t, "attempt", what=what, portal=portal, status=status, sessions=sessions)


def scsi(t, portal=P1):
    return event(t, "scsi", portal=f"{portal}:3260", source="wire")


def proof(t, *who, portal=P1, status="0x0000"):
    return login(t, portal, status) | {"proved": [*who]}


def sought(**found):
    return event(9, "secrets-sought", "lab", **{"secrets": 2, "files": 12, "found": [], **found})


LOOKED = event(0, "config", "lab", scsi_on_wire=True)
SENT_ON = login(0, VIRTUAL, "0x0101", f"{P1}:3260")
REFUSED = [LOOKED, SENT_ON, login(0.1, P1, "0x0201"), attempt(0.2)]
LET_IN = [LOOKED, SENT_ON, login(0.1, P1), scsi(0.2), attempt(0.3, status=0, sessions=1)]
BROKEN_OFF = [LOOKED, SENT_ON, login(0.1, P1, None), hung_up(0.2, "host"), attempt(0.3, status=19)]
UNTOLD = [
    login(0, VIRTUAL, "0x0201") | {"kind": "discovery-login"},
    attempt(0.1, "discovery"),
]
NAMED = event(0.1, "discovery-wire", portal=f"{VIRTUAL}:3260", portals=[f"{VIRTUAL}:3260"])
SESSION = event(1, "session", moment="after", current=f"{P1}:3260")

EXAMPLES = {
    "login_refused": (
        ("h1", P1, "0x0201"),
        {
            "pass": [REFUSED],
            "fail": [
                LET_IN,
                BROKEN_OFF,
                changed(REFUSED, 2, status="0x0203"),
                changed(REFUSED, 3, status=0),
                [*REFUSED, login(1, P1)],
            ],
            "unknown": [[], without(REFUSED, 2), without(REFUSED, 3)],
        },
    ),
    "discovery_refused": (
        ("h1", VIRTUAL, "0x0201"),
        {
            "pass": [UNTOLD],
            "fail": [
                [*UNTOLD, NAMED],
                changed(UNTOLD, 0, status="0x0000"),
                changed(UNTOLD, 1, status=0),
            ],
            "unknown": [[], UNTOLD[:1], UNTOLD[1:], REFUSED],
        },
    ),
    "host_refused": (
        ("h1", P1),
        {
            "pass": [BROKEN_OFF],
            "fail": [
                REFUSED,
                LET_IN,
                changed(BROKEN_OFF, 3, by="array"),
                without(BROKEN_OFF, 3),
                changed(BROKEN_OFF, 4, status=0),
            ],
            "unknown": [[], without(BROKEN_OFF, 2), without(BROKEN_OFF, 4)],
        },
    ),
    "nothing_served": (
        ("h1",),
        {
            "pass": [REFUSED, BROKEN_OFF],
            "fail": [
                LET_IN,
                [*REFUSED, login(1, P1)],
                [*REFUSED, scsi(1)],
                [*REFUSED, SESSION],
                changed(REFUSED, 3, sessions=1),
            ],
            "unknown": [[], [LOOKED], without(REFUSED, 0), without(REFUSED, 3)],
        },
    ),
    "proved": (
        ("h1", P1, {"host", "target"}),
        {
            "pass": [[proof(0, "host", "target")]],
            "fail": [
                [proof(0, "host")],
                [proof(0)],
                [login(0, P1)],
                [proof(0, "host", "target"), proof(1, "target")],
            ],
            "unknown": [[], REFUSED, [proof(0, "host", "target", portal=VIRTUAL)]],
        },
    ),
    "no_secret_leaked": (
        (),
        {
            "pass": [[sought()]],
            "fail": [[sought(found=["logs/h1-support.log"])]],
            "unknown": [[], [sought(secrets=0)], [sought(files=0)]],
        },
    ),
}
"""Check -> how it is called, then examples by verdict."""
