"""What hosts, faults, scenarios and observers need of an array, of whatever it is made."""

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
    """A storage system that runs: SingleArray, or HeadArray.

    What follows from its `spec`, or from who has which address, is answered here.
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
        """Start all that it is made of; returns when the controller has settled it."""

    @abstractmethod
    def stop(self) -> None:
        """End all that start() began: last first, or at once with a kernel of its own."""

    @abstractmethod
    def power_cut(self) -> None:
        """End its kernels at once; BadInput for an engine that has none of its own."""

    @abstractmethod
    def power_on(self) -> None:
        """Boot it again; returns when it serves the same targets and its controller has settled."""

    @abstractmethod
    def interface(self, port: str) -> str:
        """The interface of `port`, as the array's kernel calls it."""

    @abstractmethod
    def owners(self, address: str) -> set[str]:
        """The ports that have `address` at this moment, asked from the kernel."""

    @abstractmethod
    def send_to(self, host: str, portal: str, *, permanent: bool = False) -> None:
        """Send the host at address `host` to `portal` at its next login, whatever the controller
        thinks of it; LabError if the virtual port has one answer for all hosts."""

    @abstractmethod
    def tell(self, **command: Any) -> None:
        """Give the controller an order, for example command="move-vip", port="p2"."""

    @abstractmethod
    def kill_controller(self, *, next_dies_at: int = 0) -> None:
        """SIGKILL the controller; it is started again.

        `next_dies_at`: the new one dies in the midst of its work, when it has given ip that many
        lines since its start; the one after that does not.
        """

    @abstractmethod
    def kill_front(self) -> None:
        """SIGKILL what answers at the virtual port; it is started again. BadInput where nothing
        would do that."""

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Versions of what the array is made of."""

    @property
    def virtual(self) -> str:
        """The virtual address, without prefix; the first, if there is one of each family."""
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
        """The routing table of `address`, in which its way out goes along with it."""
        known = [str(a.ip) for a, _ in addresses_of(self.spec)]
        return FIRST_TABLE + known.index(address)

    def port_of(self, address: str) -> str:
        """The port that has `address` now; LabError unless there is exactly one."""
        owners = self.owners(address)
        if len(owners) != 1:
            raise LabError(f"{self.spec.name}: {address} is on {sorted(owners) or 'no port'}")
        return owners.pop()
