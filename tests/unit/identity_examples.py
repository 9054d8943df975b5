"""Examples of each verdict for the checks of identity and reservations, for test_checks.py."""

IQN = "iqn.2026-01.lab.failover:a1"


def event(t, kind, moment, host="h1", **details):
    return {"t": t, "where": host, "kind": kind, "moment": moment, **details}


def identity(t, moment, lun=1, **changes):
    about = {
        "target": IQN,
        "lun": lun,
        "serial": f"a1lun{lun}",
        "designators": f"010300086000000{lun}",
        "size_bytes": 64 << 20,
        "block_bytes": 512,
    }
    return event(t, "identity", moment, **{**about, **changes})


def held(t, moment, **changes):
    about = {"keys": ["0xa1"], "holder": "0xa1", "type": 1, "generation": 1}
    return event(t, "reservation", moment, **{**about, **changes})


def attempt(t, moment, status):
    return event(t, "attempt", moment, lun=1, status=status)


BEFORE = [identity(1, "before", 1), identity(1, "before", 2)]
AFTER = [identity(5, "after", 1), identity(5, "after", 2)]
FREE = {"keys": [], "holder": None, "type": None}
CONFLICTS = [attempt(1, "before", "conflict"), attempt(5, "after", "conflict")]
WRITTEN = [attempt(1, "before", "ok"), attempt(5, "after", "ok")]

EXAMPLES = {
    "same_identity": (
        ("h1", 2),
        {
            "pass": [[*BEFORE, *AFTER]],
            "fail": [
                [*BEFORE, AFTER[0]],
                [*BEFORE, *AFTER, identity(5, "after", 3)],
                [BEFORE[0], AFTER[0]],
                [*BEFORE, AFTER[0], identity(5, "after", 2, serial="other")],
                [*BEFORE, AFTER[0], identity(5, "after", 2, designators="00")],
                [*BEFORE, AFTER[0], identity(5, "after", 2, size_bytes=5)],
                [*BEFORE, AFTER[0], identity(5, "after", 2, block_bytes=4096)],
                [*BEFORE, AFTER[0], identity(5, "after", 2, target="iqn.other")],
                [*BEFORE, *AFTER, identity(9, "last", 1), identity(9, "last", 2, serial="x")],
                [
                    identity(t, m, lun, serial="same")
                    for t, m in ((1, "before"), (5, "after"))
                    for lun in (1, 2)
                ],
            ],
            "unknown": [[], BEFORE],
        },
    ),
    "reservation_unchanged": (
        ("h1",),
        {
            "pass": [[held(1, "before"), held(5, "after", generation=2)]],
            "fail": [
                [held(1, "before"), held(5, "after", **FREE)],
                [held(1, "before"), held(5, "after", holder="0xb2")],
                [held(1, "before"), held(5, "after", type=3)],
                [held(1, "before"), held(5, "after", keys=["0xa1", "0xb2"])],
                [held(1, "before"), held(3, "moved"), held(5, "after", **FREE)],
            ],
            "unknown": [
                [],
                [held(1, "before")],
                [held(1, "before", **FREE), held(5, "after", **FREE)],
            ],
        },
    ),
    "writes_refused": (
        ("h1",),
        {
            "pass": [CONFLICTS],
            "fail": [
                WRITTEN,
                [*CONFLICTS, attempt(9, "last", "ok")],
                [attempt(1, "b", "sg_raw 2")],
            ],
            "unknown": [[]],
        },
    ),
    "writes_allowed": (
        ("h1",),
        {
            "pass": [WRITTEN],
            "fail": [CONFLICTS, [*WRITTEN, attempt(9, "last", "conflict")]],
            "unknown": [[]],
        },
    ),
}
"""Check -> how it is called, then examples by verdict."""
