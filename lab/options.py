"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Release = Annotated[str, typer.Option("--release", help="Debian release of the hosts.")]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder; must not be there yet.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
