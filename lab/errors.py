"""Errors that reach the user, each with the exit code of the command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_MOST_SHOWN = 2000
"""The most characters of output in a message; the last ones are kept."""
_MOST_NAMED = 12
"""The most names that a message lists; of more it names the one most alike."""


class LabError(Exception):
    """The lab broke while it ran, so there is no verdict; exit code 4."""

    exit_code = 4


class BadInput(LabError):
    """Unusable input; the message names the place and the remedy; exit code 2."""

    exit_code = 2


def unknown(what: str, name: object, there: Iterable[str], remedy: str = "") -> BadInput:
    """The error for a `name` that is not one of `there`.

    It names the most similar one, lists all if they are few, and ends with the `remedy`.
    """
    import difflib  # here, so that guests do not load it at each start

    known = list(there)
    spelled = {one.lower().replace("_", "-"): one for one in known}
    alike = difflib.get_close_matches(str(name).lower().replace("_", "-"), spelled, 1, 0.7)
    parts = [f"there are {', '.join(known)}"] if 0 < len(known) <= _MOST_NAMED else []
    parts += [remedy] if remedy else []
    if alike:
        meant = f", did you mean {spelled[alike[0]]}?"
        rest = "; ".join(parts)
        return BadInput(f"no {what} {name!r}{meant} {rest[:1].upper()}{rest[1:]}".rstrip())
    return BadInput("; ".join([f"no {what} {name!r}", *parts]))


class Missing(LabError):
    """This machine lacks something; the message says what and how to get it; exit code 3."""

    exit_code = 3


class CommandFailed(LabError):
    """A command exited with a status other than 0, or missed its time limit (status None)."""

    def __init__(self, host: str, argv: Sequence[str], status: int | None, output: str) -> None:
        self.host, self.argv, self.status, self.output = host, list(argv), status, output
        ended = "did not end in time" if status is None else f"ended with status {status}"
        shown, told = " ".join(argv), output.strip()[-_MOST_SHOWN:]
        super().__init__(f"{host}: `{shown}` {ended}: {told or '(no output)'}")


class WaitTimeout(LabError):
    """A state did not come in time; the message has the state, the limit and the last sight."""

    def __init__(self, what: str, seconds: float, last: object) -> None:
        self.what, self.seconds, self.last = what, seconds, last
        shown = str(last)
        if len(shown) > _MOST_SHOWN:
            shown = "… " + shown[-_MOST_SHOWN:]
        super().__init__(f"waited {seconds:g} s for {what}; last seen: {shown}")
