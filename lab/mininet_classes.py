"""What is used of Mininet, or stand-ins where it is not: pip cannot bring it, it comes from Debian.

So that every command that needs none works without, and those that do say what to install.
"""

from __future__ import annotations

from typing import Any

from lab.errors import Missing

__all__ = ["MISSING", "REMEDY", "Host", "LinuxBridge", "Mininet", "Topo", "setLogLevel"]

REMEDY = (
    "sudo apt-get install mininet, and a Python that sees it: `make setup` makes one in .venv; "
    "your own is made by /usr/bin/python3 -m venv --system-site-packages"
)
MISSING = ""
"""Why Mininet cannot be imported, if it cannot."""

try:
    from mininet.log import setLogLevel
    from mininet.net import Mininet
    from mininet.node import Host
    from mininet.nodelib import LinuxBridge
    from mininet.topo import Topo
except ImportError as lacking:
    MISSING = str(lacking)

    class _Lacking:
        def __init__(self, *_: Any, **__: Any) -> None:
            raise Missing(f"mininet for Python ({MISSING}): {REMEDY}")

    Host = LinuxBridge = Mininet = Topo = setLogLevel = _Lacking
