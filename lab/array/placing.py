"""How an array's kernel gets its addresses at first, before there is a controller."""

from __future__ import annotations

from lab.controller import addresses
from lab.controller.config import Config
from lab.topology.topology import ArraySpec, Interface


def addresses_of(spec: ArraySpec) -> list[tuple[Interface, str]]:
    """Every address of the array and its home port: the virtual ones, then those of each port.

    This order gives each its routing table (lab/controller/config.py).
    """
    virtual = [(address, spec.home.name) for address in spec.virtual]
    return [*virtual, *((address, port.name) for port in spec.ports for address in port.addresses)]


def placing_script(config: Config, *, with_addresses: bool = True, quick: bool = True) -> str:
    """Shell that brings the ports up, and every address to its home port, as a controller would.

    Without addresses these come later, by order; rules and routes are there for all of them.
    `quick`: with the short retransmission timeout that is part of our controller's way.
    """
    batches = {"": [f"link set {name} up" for name in ["lo", *config.interfaces.values()]]}
    for family in (4, 6):
        lines = addresses.setup_lines(config, family)
        batches[f"-{family}"] = [
            one for one in lines if with_addresses or not one.startswith("addr ")
        ]
    # One script, for each command that is started in a guest costs it 50 ms.
    script = ["set -e"]
    script += [f"echo {value} > {path}" for path, value in addresses.sysctls(config).items()]
    if quick:
        script.append(addresses.quick_rto())
    for option, lines in batches.items():
        if lines:
            script += [f"ip {option} -batch - <<'.'", *lines, "."]
    return "\n".join([*script, ""])
