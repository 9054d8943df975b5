"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Release = Annotated[str, typer.Option("--release", help="Debian release of the hosts.")]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder; must not be there yet.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Initiator = Annotated[
    str, typer.Option("--initiator", help="The hosts' initiator: open-iscsi, or libiscsi in QEMU.")
]
ProbeInterval = Annotated[
    float, typer.Option("--probe-interval-ms", help="A round of the controller's probes each so.")
]
ProbeCount = Annotated[
    int, typer.Option("--probe-count", help="A port is silent after so many rounds unheard.")
]
