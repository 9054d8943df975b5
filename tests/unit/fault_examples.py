"""Examples of each verdict for the checks of moves and of endurance, for test_checks.py."""

from request_examples import P1, VIRTUAL, event, login

VIA = f"{P1}:3260"


def address(t, port, op="add"):
    return event(t, "address", port, address=VIRTUAL, op=op, source="kernel")


def move(t, old, new):
    return [address(t, old, "del"), address(t + 0.01, new)]


def fault(t, phase="begin", name="carrier-loss", where="p1"):
    return event(t, "fault", where, name=name, phase=phase)


def said(t, what):
    return event(t, "controller", "a1", what=what)


def front(t, what):
    return event(t, "virtual-port", "a1", what=what)


def announced(t):
    return event(t, "announcement", address=VIRTUAL, mac="02:00:00:00:00:12")


def write(t, status="ok"):
    return event(t, "io", op="write", seq=1, block=1, start=t, status=status)


def load(begin, end):
    phases = ((begin, "begin"), (end, "end"))
    return [event(t, "load", phase=phase, name="writer") for t, phase in phases]


def moment(t, name):
    return event(t, "moment", "lab", name=name)


HOME = address(0, "p1")
AWAY = [HOME, fault(5), *move(5.01, "p1", "p2")]
DOWN = moment(7, "take-down")
FLAPPED = moment(7, "the port stays up")
BACK = [*AWAY, fault(6, "end"), *move(8.1, "p2", "p1")]
LOST = [announced(1), fault(4, name="announcements-lost", where="h1")]
STARTED = [said(0, "started"), said(0.1, "settled")]
DIED = [*STARTED, fault(1), said(1.1, "died"), said(1.4, "started"), said(1.5, "settled")]
KILLED = [*STARTED, said(1.1, "died"), said(1.4, "started"), said(1.5, "settled")]
ERRORS = [write(1), write(2, "EIO"), write(3), write(4)]
READ_ERROR = {**write(2, "EIO"), "op": "read"}
IN_TIME = [login(0, P1), *load(1, 9)]

EXAMPLES = {
    "moved_times": (
        (VIRTUAL, 1),
        {
            # The last: what moves when the lab is being taken down does not count.
            "pass": [AWAY, [*BACK, DOWN]],
            "fail": [BACK, [HOME], [*BACK, moment(9, "take-down")]],
            "unknown": [[], [fault(5)]],
        },
    ),
    "home_after_hold": (
        (VIRTUAL, 2.0),
        {
            "pass": [BACK],
            "fail": [
                AWAY,
                [*AWAY, fault(7, "end"), *move(8.1, "p2", "p1")],  # too early
                [*AWAY, fault(5.02, "end"), *move(8.1, "p2", "p1")],  # too late
                [*BACK, *move(9, "p1", "p2"), *move(9.1, "p2", "p1")],  # again
                [*AWAY, fault(6, "end"), *move(8.1, "p2", "p3")],
            ],
            "unknown": [[], [*AWAY, *move(8.1, "p2", "p1")]],
        },
    ),
    "unannounced": (
        ("h1", VIRTUAL),
        {
            "pass": [
                [*LOST, *AWAY],
                [*LOST, *AWAY, fault(7, "end", "announcements-lost", "h1"), announced(7.1)],
            ],
            "fail": [[*LOST, *AWAY, announced(5.1)], [*LOST, HOME]],
            "unknown": [[], AWAY, [announced(1), HOME]],
        },
    ),
    "controller_restarted": (
        (1,),
        {
            "pass": [DIED, KILLED],
            "fail": [STARTED, DIED[:-1], DIED[:-2], [*DIED, said(2, "died")]],
            "unknown": [[], [fault(1)]],
        },
    ),
    "front_restarted": (
        (),
        {
            "pass": [[front(1, "died"), front(1.2, "restarted")]],
            "fail": [
                [front(1, "died")],
                [front(1, "died"), front(1.2, "restarted"), front(2, "died")],
            ],
            "unknown": [[], [front(1, "redirected")]],
        },
    ),
    "stayed_logged_in": (
        ("h1",),
        {
            "pass": [IN_TIME, [*IN_TIME, login(10, P1)]],
            "fail": [[*IN_TIME, login(5, VIRTUAL, "0x0101", VIA)]],
            "unknown": [[], load(1, 9), [login(0, P1)]],
        },
    ),
    "recovered_after_errors": (
        ("h1", 2),
        {
            # A block is read before it is written again: the disk's death may meet the read.
            "pass": [ERRORS, [write(1), READ_ERROR, write(3), write(4)]],
            "fail": [
                ERRORS[:3],
                [write(1)],
                [*ERRORS, write(5, "EIO")],
                [write(1), READ_ERROR, {**READ_ERROR, "t": 3, "status": "ok"}, write(4)],
            ],
            "unknown": [[]],
        },
    ),
    "frames_dropped": (
        ("h1",),
        {
            "pass": [[event(1, "netem", packets=100, dropped=2)]],
            "fail": [[event(1, "netem", packets=100, dropped=0)]],
            "unknown": [[], [event(1, "netem", "h2", packets=100, dropped=2)]],
        },
    ),
}
