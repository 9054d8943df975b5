"""Errors that reach the user, each with the exit code of the command."""

from __future__ import annotations

from collections.abc import Sequence

_MOST_SHOWN = 2000
"""The most characters of output in a message; the last ones are kept."""


class LabError(Exception):
    """The lab broke while it ran, so there is no verdict; exit code 4."""

    exit_code = 4


class BadInput(LabError):
    """Unusable input; the message names the place and the remedy; exit code 2."""

    exit_code = 2


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
