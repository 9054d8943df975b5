"""Examples of a region that two hosts share: values are 64 times a count, plus the host."""

from session_events import event


def swap(host, found, value, start, end, status="ok", slot=0):
    return event(end, f"h{host}", "swap", op="swap", slot=slot, found=found, value=value,
                 start=start, status=status)  # fmt: skip


def look(host, found, start, end, slot=0):
    return event(end, f"h{host}", "swap", op="read", slot=slot, found=found, value=found,
                 start=start, status="ok")  # fmt: skip


A, B, C = 65, 66, 129  # the first of h1, the first of h2, the second of h1
CHAIN = [swap(1, 0, A, 1, 2), swap(2, A, B, 3, 4), swap(1, B, C, 5, 6)]
LAST = [look(1, C, 8, 9), look(2, C, 8, 9)]

EXAMPLES = {
    "swaps_agree": (
        (),
        {
            "pass": [
                [*CHAIN, *LAST],
                [*CHAIN, swap(2, B, 130, 5, 7, "other"), *LAST],  # h1 was first
                [*CHAIN, swap(2, B, 130, 5, 7, "host 0xe"), *LAST],  # failed, and was not done
                # It failed, but was done: the next one found it.
                [
                    CHAIN[0],
                    swap(2, A, B, 3, 4, "host 0xe"),
                    *CHAIN[2:],
                    swap(2, C, 194, 6.5, 7),
                    look(1, 194, 8, 9),
                ],
                # Two at once may be in any order, and a read with them may see either.
                [swap(1, 0, A, 1, 5), swap(2, A, B, 2, 4), look(1, A, 3, 6), look(2, B, 7, 8)],
            ],
            "fail": [
                # Both replaced the same value: compare and write is not atomic.
                [CHAIN[0], swap(2, A, B, 3, 4), swap(1, A, C, 3, 4), *LAST],
                # What was swapped is gone.
                [*CHAIN[:2], look(1, A, 5, 6)],
                [*CHAIN, look(1, 0, 8, 9)],
                [*CHAIN, look(1, 999, 8, 9)],
                [*CHAIN, look(2, "torn", 8, 9)],
                [*CHAIN, look(2, B, 8, 9)],
                [look(2, A, 0, 0.5), *CHAIN, *LAST],
                [swap(1, 0, A, 1, 2), swap(2, 999, B, 3, 4), look(1, B, 5, 6)],
            ],
            "unknown": [
                [],
                CHAIN,
                [CHAIN[0], look(1, A, 3, 4)],  # one host only
                [*CHAIN, look(1, C, 5.5, 7)],  # read too early to be the last word
                [*CHAIN, look(1, 130, 8, 9)],  # h2 was cut off before it could report that
            ],
        },
    ),
}
