"""What observers say of themselves, for examples of checks."""

import itertools

from session_events import event


def seen(source, where="array", since=-1, until=1000):
    """An observer that saw everything from `since` to `until`."""
    return [
        event(since, where, "evidence", source=source, phase="begin"),
        event(until, where, "evidence", source=source, phase="end"),
    ]


def all_seen(check):
    """Whole evidence of every source that `check` needs."""
    needs = [seen(source, where or "array") for source, where in check.needs]
    return list(itertools.chain(*needs))
