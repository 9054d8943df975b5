"""The classes used of Mininet, or stand-ins if it is missing: it comes from Debian, not from pip.

With the stand-ins, commands that need no Mininet work, and the others say what to install.
"""

from __future__ import annotations

from typing import Any

from lab.errors import Missing

__all__ = ["MISSING", "REMEDY", "Host", "Link", "LinuxBridge", "Mininet", "Topo", "setLogLevel"]

REMEDY = (
    "sudo apt-get install mininet, and a Python that sees it: `make setup` makes one in .venv; "
    "your own is made by /usr/bin/python3 -m venv --system-site-packages"
)
MISSING = ""
"""Why Mininet cannot be imported, if it cannot."""

try:
    from mininet.link import Link
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

    Host = Link = LinuxBridge = Mininet = Topo = setLogLevel = _Lacking
