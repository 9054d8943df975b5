"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Release = Annotated[str, typer.Option("--release", help="Debian release of the hosts.")]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder; new or empty.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Initiator = Annotated[
    str, typer.Option("--initiator", help="Initiator of the hosts: open-iscsi or libiscsi.")
]
ProbeInterval = Annotated[
    float, typer.Option("--probe-interval-ms", help="Milliseconds between probe rounds.")
]
ProbeCount = Annotated[
    int, typer.Option("--probe-count", help="Missed probe rounds before a port counts as silent.")
]
Target = Annotated[
    str | None, typer.Option("--target", help="Target engine: tgt or lio; default: the scenario's.")
]
