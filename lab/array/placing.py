"""How an array's kernel gets its first addresses, before the controller runs."""

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
    """A shell script: the ports up, and every address on its home port, as by the controller.

    Without addresses it sets only rules and routes, for all of them; the addresses come by order.
    `quick`: also set the short retransmission timeout that our controller uses.
    """
    batches = {"": [f"link set {name} up" for name in ["lo", *config.interfaces.values()]]}
    for family in (4, 6):
        lines = addresses.setup_lines(config, family)
        batches[f"-{family}"] = [
            one for one in lines if with_addresses or not one.startswith("addr ")
        ]
    # One script: each command started in a guest costs 50 ms.
    script = ["set -e"]
    script += [f"echo {value} > {path}" for path, value in addresses.sysctls(config).items()]
    if quick:
        script.append(addresses.quick_rto())
    for option, lines in batches.items():
        if lines:
            script += [f"ip {option} -batch - <<'.'", *lines, "."]
    return "\n".join([*script, ""])
