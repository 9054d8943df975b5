"""The interface of an array for hosts, faults, scenarios and observers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

from lab.array.placing import addresses_of
from lab.array.port_relay import PortRelay
from lab.commands import Runner
from lab.controller.config import FIRST_TABLE
from lab.errors import BadInput, LabError
from lab.topology.topology import ArraySpec, HostSpec
from targets.base import TargetEngine, TargetSpec


class Array(Protocol):
    """A running storage array: SingleArray or HeadArray.

    The methods with a body need only its `spec` and owners().
    """

    spec: ArraySpec
    targets: Sequence[TargetSpec]
    engine: TargetEngine

    @property
    @abstractmethod
    def runner(self) -> Runner:
        """Where its commands run; LabError while it is powered off."""

    @property
    @abstractmethod
    def relay(self) -> PortRelay:
        """The relay at the data ports; LabError if the policy has none."""

    @abstractmethod
    def start(self) -> None:
        """Start all parts of the array; returns when the controller has settled."""

    @abstractmethod
    def stop(self) -> None:
        """End all that start() began, in reverse order, or at once with a kernel of its own."""

    @abstractmethod
    def power_cut(self) -> None:
        """End its kernels at once; BadInput for an engine without a kernel of its own."""

    @abstractmethod
    def power_on(self) -> None:
        """Boot it again; returns when it serves the same targets and its controller has settled."""

    @abstractmethod
    def interface(self, port: str) -> str:
        """The name of the interface of `port` in the array's kernel."""

    @abstractmethod
    def owners(self, address: str) -> set[str]:
        """The ports that have `address` now, read from the kernel."""

    @abstractmethod
    def send_to(self, host: str, portal: str, *, permanent: bool = False) -> None:
        """Redirect the host at address `host` to `portal` at its next login, whatever the
        controller decides; LabError if the virtual port has one answer for all hosts."""

    @abstractmethod
    def tell(self, **command: Any) -> None:
        """Give the controller an order, for example command="move-vip", port="p2"."""

    @abstractmethod
    def kill_controller(self, *, next_dies_at: int = 0) -> None:
        """SIGKILL the controller; its supervisor restarts it.

        `next_dies_at`: the new controller dies in the middle of its work, after it has given `ip`
        that many lines. The one after it lives. 0: the new one lives.
        """

    @abstractmethod
    def kill_front(self) -> None:
        """SIGKILL the front, which is then restarted; BadInput if nothing would restart it."""

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Versions of the array's software."""

    @property
    def virtual(self) -> str:
        """The virtual address, without prefix length; the first, if there is one per family."""
        return str(self.spec.virtual[0].ip)

    def virtual_for(self, host: HostSpec) -> str:
        """The virtual address in a subnet of `host`; the first, if it has several."""
        nets = {address.network for address in host.addresses}
        return next(str(a.ip) for a in self.spec.virtual if a.network in nets)

    def address_of(self, port: str, family: int | None = None) -> str:
        """The data address at home on `port`: the first, or the first of `family` (4 or 6).

        Raises BadInput for a port that is not there, or that has no address of that family.
        """
        spec = self.spec.port(port)
        found = [str(a.ip) for a in spec.addresses if family in (None, a.version)]
        if not found:
            raise BadInput(f"{spec.place}: port {port} needs an IPv{family} address as well")
        return found[0]

    def data_addresses(self) -> set[str]:
        """The addresses of all data ports."""
        return {str(a.ip) for p in self.spec.ports for a in p.addresses}

    def table_of(self, address: str) -> int:
        """The number of the routing table of `address`: its routes move along with it."""
        known = [str(a.ip) for a, _ in addresses_of(self.spec)]
        return FIRST_TABLE + known.index(address)

    def port_of(self, address: str) -> str:
        """The port that has `address` now; LabError unless there is exactly one."""
        owners = self.owners(address)
        if len(owners) != 1:
            raise LabError(f"{self.spec.name}: {address} is on {sorted(owners) or 'no port'}")
        return owners.pop()
