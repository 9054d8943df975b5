"""A running lab: the topology with its hosts booted, its array serving, and observers watching."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from lab import sandbox
from lab.array import heads
from lab.array.access import Access
from lab.array.array import Array
from lab.array.head_site import NICE, HeadSite
from lab.array.manager import Manager, boot_addresses
from lab.array.policy import Policy
from lab.array.single import SingleArray
from lab.array.site import GuestSite, Site
from lab.commands import LocalRunner
from lab.errors import BadInput, unknown
from lab.folder import Folder
from lab.guest.cage import GuestSpace
from lab.guest.image import Image
from lab.guest.kernel_host import KernelHost, mac_of
from lab.guest.seed import guest_program
from lab.guest.ssh import Keys
from lab.host import initiator
from lab.host.host import LabHost
from lab.mininet_classes import Host, Mininet
from lab.observe import Capture, MachineWatcher
from lab.run import network
from lab.run.last_words import LunFiles, decode_captures, end_clocks
from lab.timeline import BUILT, TAKE_DOWN, Timeline
from lab.topology.heads import HeadsTopo
from lab.topology.topology import ArrayTopo, HostSpec
from lab.waiting import wait_for
from targets import engines

ARRAY_MEMORY_MIB = 160

Say = Callable[[str], None]


@dataclass
class Setup:
    """The parts of a lab: topology, release image, the array's policy and engine, initiator."""

    topo: ArrayTopo
    image: Image
    policy: Policy
    target: str = engines.DEFAULT
    seed: int = 1
    full_capture: bool = False
    initiator: str = initiator.DEFAULT


class Lab(AbstractContextManager["Lab"]):
    """A running lab: `with Lab(setup, folder, timeline, say) as lab` builds it and takes it down.

    Needs the sandbox. `say` gets each step in a few words. Whatever is started registers its end at
    once; the ends run in reverse order. If the run is interrupted, nobody will judge it: then what
    only the judge needs (last_words.py) is left out.
    """

    def __init__(self, setup: Setup, folder: Folder, timeline: Timeline, say: Say) -> None:
        self.setup, self.folder, self.timeline, self.say = setup, folder, timeline, say
        self.hosts: dict[str, LabHost] = {}
        self._initiators = initiator.find(setup.initiator)
        self.switch = LocalRunner("switch")
        self._undo = ExitStack()
        self._faults: dict[int, AbstractContextManager[Any]] = {}
        self._numbers = itertools.count()
        self._interrupted = False

    def __enter__(self) -> Lab:
        with self._undo:
            try:
                self._build()
            except KeyboardInterrupt:
                self._interrupted = True
                raise
            self._undo = self._undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.timeline.add("lab", "moment", name=TAKE_DOWN)
        self._interrupted = kind is KeyboardInterrupt
        # With the first error as context: a failing clean-up must not hide it.
        self._undo.__exit__(kind, error, trace)

    def _build(self) -> None:
        for folder in (self.folder.logs, self.folder.captures, self.folder.disks):
            folder.mkdir(exist_ok=True)
        self._undo.callback(self.folder.work.rmdir)
        sandbox.mount_tmpfs(self.folder.work)
        self._undo.callback(sandbox.unmount, self.folder.work)
        self._undo.enter_context(MachineWatcher(self.timeline, self.folder.logs / "machine.log"))
        keys = Keys.make()
        space = GuestSpace.prepare(self.setup.image, self.folder.work)
        # Engines refuse paths with blanks or commas, and a run folder may have them.
        disks = os.open(self.folder.disks, os.O_PATH)
        self._undo.callback(os.close, disks)
        self._undo.callback(space.close)
        self._disks = Path(f"/proc/{os.getpid()}/fd/{disks}")
        self.say("building the network")
        nodes = self._network()
        self.say("booting the hosts")
        for spec in self.setup.topo.initiators.values():
            node = nodes[spec.name]
            if isinstance(node, KernelHost):
                self._boot(spec, node, space, keys)
            else:
                self._address(spec, node)
            self.hosts[spec.name] = LabHost(self, spec, node, self._initiators)
            self._undo.callback(self.hosts[spec.name].close)
        self._observe(nodes)
        self.array = self._make_array(nodes, space, keys)
        files = LunFiles()
        self._for_the_judge(lambda: files.read(self.hosts.values()))
        self._undo.callback(self.array.stop)
        with ThreadPoolExecutor() as pool:
            ready = [pool.submit(host.ready) for host in self.hosts.values()]
            self.array.start()
            for one in ready:
                one.result()
        guests = [node for node in nodes.hosts if isinstance(node, KernelHost)]
        self._for_the_judge(
            lambda: files.write_back([one for one in guests if one.name not in self.hosts])
        )
        self._for_the_judge(lambda: end_clocks(guests))
        self.timeline.add("lab", "moment", name=BUILT)

    def _for_the_judge(self, gather: Callable[[], None]) -> None:
        """Call `gather` at the take-down, in its turn, unless the run was interrupted."""
        self._undo.callback(lambda: None if self._interrupted else gather())

    def _network(self) -> Mininet:
        topo = self.setup.topo
        kernels = [*topo.initiators] if self._initiators.own_kernel else []
        if isinstance(topo, HeadsTopo):
            heads.check(self.setup.target, self.setup.policy)
            kernels += topo.heads
            name = topo.storage.name
            topo.setNodeInfo(name, {**topo.nodeInfo(name), "cls": Manager})
        elif engines.find(self.setup.target).own_kernel:
            kernels.append(topo.storage.name)
        for name in kernels:
            topo.setNodeInfo(name, {**topo.nodeInfo(name), "cls": KernelHost})
        return network.start(topo, self.switch, self._undo)

    def _boot(self, spec: HostSpec, kernel: KernelHost, space: GuestSpace, keys: Keys) -> None:
        programs = {
            name: guest_program(name) for name in ("scsi", "sessions", "writer.py", "slots.py")
        }
        kernel.prepare(
            space, keys, self.timeline, self.folder.logs,
            addresses={spec.interface: [str(a) for a in spec.addresses]}, programs=programs,
        )  # fmt: skip
        kernel.power_on()

    def _address(self, spec: HostSpec, node: Host) -> None:
        """Put the addresses on a host that has no kernel of its own."""
        lines = [f"link set {name} up" for name in ("lo", spec.interface)]
        for address in spec.addresses:
            nodad = " nodad" if address.version == 6 else ""
            lines.append(f"addr add {address} dev {spec.interface}{nodad}")
        LocalRunner(spec.name, node.pid).run(["ip", "-batch", "-"], stdin="\n".join(lines))

    def _make_array(self, net: Mininet, space: GuestSpace, keys: Keys) -> Array:
        topo, node = self.setup.topo, net[self.setup.topo.storage.name]
        places = {"logs": self.folder.logs, "disks": self._disks}
        if isinstance(topo, HeadsTopo):
            sites = {}
            for name, spec in topo.heads.items():
                self._power_on(net[name], boot_addresses(spec), space, keys, NICE)
                sites[name] = HeadSite(net[name], self._disks)
            manager = Site(LocalRunner(node.name, node.pid), self.folder.work, node.pid)
            return heads.HeadArray(
                topo, self.setup.policy, self.setup.target, sites, manager, self.timeline, **places
            )
        site = Site(LocalRunner(node.name, node.pid), self.folder.work, node.pid)
        if isinstance(node, KernelHost):
            interfaces = {port.interface: list[str]() for port in topo.storage.ports}
            self._power_on(node, interfaces, space, keys)
            site = GuestSite(node, self._disks)
        return SingleArray(
            topo, self.setup.policy, site, self.setup.target, self.timeline, **places
        )

    def _power_on(
        self, node: KernelHost, addresses: dict[str, list[str]], space: GuestSpace, keys: Keys,
        nice: int = 0,
    ) -> None:  # fmt: skip
        """Boot a kernel for an array or one of its heads."""
        node.prepare(
            space, keys, self.timeline, self.folder.logs, addresses=addresses,
            programs=GuestSite.programs(), start=GuestSite.start, memory_mib=ARRAY_MEMORY_MIB,
            nice=nice,
        )  # fmt: skip
        self._undo.callback(node.power_cut)
        node.power_on()

    def _observe(self, net: Mininet) -> None:
        topo = self.setup.topo
        at = {p.name: net[p.node] for p in topo.storage.ports}
        macs = {
            # A guest has its own MAC on the cable.
            p.name: mac_of(p.interface)
            if isinstance(at[p.name], KernelHost)
            else at[p.name].intf(p.interface).MAC()
            for p in topo.storage.ports
        }
        self.timeline.add(
            "lab", "config", virtual=[str(a.ip) for a in topo.storage.virtual],
            ports={p.name: [str(a.ip) for a in p.addresses] for p in topo.storage.ports},
            macs=macs, hosts=[*topo.initiators], mode=self.setup.policy.mode,
            redirect=self.setup.policy.redirect, initiator=self.setup.initiator,
            scsi_on_wire=self._scsi_on_wire,
            kernels=[node.name for node in net.hosts if isinstance(node, KernelHost)],
        )  # fmt: skip
        self._switch_ends = network.switch_ends(net, topo)
        captured = {name: self._switch_ends[name] for name in topo.initiators}
        capture = Capture(
            captured, self.folder.captures, timeline=self.timeline, full=self.setup.full_capture
        )
        since = time.time()

        def decode() -> None:
            self.say("decoding the captures")
            hosts = {str(a.ip): h.name for h in topo.initiators.values() for a in h.addresses}
            served = self._scsi_on_wire
            decode_captures(capture, hosts, self.timeline, served=served, since=since)

        self._for_the_judge(decode)
        self._undo.enter_context(capture)

    @property
    def _scsi_on_wire(self) -> bool:
        """Whether the captures show served SCSI commands; scenarios with access rules need that."""
        return self.setup.full_capture and self.setup.policy.access != Access()

    @property
    def seed(self) -> int:
        """The seed of the content and order of all loads."""
        return self.setup.seed

    @property
    def access(self) -> Access:
        """Who may log in, and with which CHAP secrets."""
        return self.setup.policy.access

    def host(self, which: str | int = 0) -> LabHost:
        """The host with this name, or at this place in the topology: 0 is the first one added.

        BadInput if the topology has none.
        """
        names = [*self.hosts]
        if isinstance(which, int) and 0 <= which < len(names):
            which = names[which]
        if not isinstance(which, str) or which not in self.hosts:
            raise unknown("host", str(which), names)
        return self.hosts[which]

    def some_hosts(self, count: int) -> list[LabHost]:
        """The first `count` hosts of the topology; BadInput if it has fewer."""
        return [self.host(place) for place in range(count)]

    def mark(self, moment: str, *, later_s: float = 0.0) -> None:
        """Put `moment` on the timeline, for checks that judge the events before it.

        With `later_s` the moment is that many seconds from now; the scenario must go on until then.
        BadInput for the name of a moment of the lab itself.
        """
        if moment in (BUILT, TAKE_DOWN):
            raise BadInput(f"the moment {moment!r} is the lab's own; choose another name")
        self.timeline.add("lab", "moment", name=moment, t=time.time() + later_s)

    def switch_end(self, name: str) -> str:
        """The switch's interface of the cable of port or host `name`, or the first switch's one of
        a link such as "s1-s2"; BadInput if there is none."""
        if name not in self._switch_ends:
            raise unknown("cable", name, self._switch_ends)
        return self._switch_ends[name]

    def begin(self, fault: AbstractContextManager[Any]) -> int:
        """Begin `fault` and return its number; end() ends it, or the end of the lab."""
        number = next(self._numbers)
        self._undo.enter_context(self._once(number, fault))
        return number

    @contextmanager
    def _once(self, number: int, fault: AbstractContextManager[Any]) -> Iterator[None]:
        fault.__enter__()
        self._faults[number] = fault
        try:
            yield
        finally:
            self.end(number)

    def end(self, number: int) -> None:
        """End the fault `number`, unless it has ended."""
        fault = self._faults.pop(number, None)
        if fault:
            fault.__exit__(None, None, None)

    def settle(self) -> None:
        """Wait for the hold time, after which the controller uses every port again."""
        self.observe_for(self.setup.policy.hold_s + 0.2)

    def observe_for(self, seconds: float) -> None:
        """Let `seconds` pass to see that something does not happen; else wait for a state."""
        until = time.monotonic() + seconds
        wait_for(
            "time to pass", time.monotonic, until=lambda now: now >= until, seconds=seconds + 9
        )

    def versions(self) -> dict[str, str]:
        """The versions of all software under test."""
        first = next(iter(self.hosts.values()))
        software = self._initiators.versions(self.setup.image.versions)
        kernel = first.runner.run(["uname", "-r"]).output.strip()
        return {"kernel": kernel, **software, **self.array.versions()}
