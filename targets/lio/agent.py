"""The agent of targets/lio/engine.py in the array's kernel: `python3 -m targets.lio.agent DEVICE`.

Reads one request a line on standard input, {"do": name of a method of Agent, and its arguments}.
Answers each with one line, {"ok": result} or {"error": why}. Its first line has the versions of LIO
and kernel. LIO keeps APTPL reservations on DEVICE, which is formatted if it is empty. Needs
Debian's python3-rtslib-fb, and nothing else of this project.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

CONFIG = Path("/sys/kernel/config")
DBROOT = Path("/etc/rtslib-fb-target")
RESERVATIONS = DBROOT / "pr"

ASK_S = 0.05


def load(device: str) -> None:
    """Load LIO and set its folder `dbroot`, which must happen before any other use.

    LIO writes APTPL reservations to `dbroot`/pr and refuses them all without that folder
    (drivers/target/target_core_pr.c, __core_scsi3_write_aptpl_to_file).
    """
    RESERVATIONS.mkdir(parents=True, exist_ok=True)
    with Path(device).open("rb") as disk:
        disk.seek(1080)
        formatted = disk.read(2) == b"\x53\xef"  # s_magic, fs/ext4/ext4.h
    if not formatted:
        subprocess.run(["busybox", "mke2fs", device], check=True, stdout=subprocess.DEVNULL)
    mount = ["busybox", "mount", "-t", "ext4", "-o", "sync", device, str(RESERVATIONS)]
    subprocess.run(mount, check=True)
    subprocess.run(["modprobe", "target_core_mod"], check=True)
    if not (CONFIG / "target").exists():
        subprocess.run(["busybox", "mount", "-t", "configfs", "none", str(CONFIG)], check=True)
    (CONFIG / "target/dbroot").write_text(f"{DBROOT}\n")
    modules = ("target_core_file", "target_core_iblock", "iscsi_target_mod")
    subprocess.run(["modprobe", "-a", *modules], check=True)


class Agent:
    """Carries out requests on LIO. Its methods have the names of the requests."""

    def __init__(self) -> None:
        import rtslib_fb

        self._lib = rtslib_fb
        self._iscsi = rtslib_fb.FabricModule("iscsi")
        self._tpgs: dict[str, Any] = {}

    def create(
        self,
        iqn: str,
        luns: list[dict[str, Any]],
        credentials: dict[str, str],
        initiators: list[str],
    ) -> None:
        """Make a target. Without `initiators` LIO makes an access list (ACL) for every host."""
        made: list[Any] = []
        try:
            target = self._lib.Target(self._iscsi, iqn)
            made.append(target)
            tpg = self._lib.TPG(target, 1)
            attributes = {
                "generate_node_acls": int(not initiators),
                "demo_mode_write_protect": 0,
                "authentication": int(bool(credentials)),
            }
            for name, value in attributes.items():
                tpg.set_attribute(name, str(value))
            if not credentials:
                # Otherwise LIO chooses CHAP if a host offers it, and then does not carry it out.
                tpg.set_parameter("AuthMethod", "None")
            _authenticate(tpg, credentials)
            numbers = {}
            for lun in luns:
                disk = self._disk(iqn, **lun)
                made.append(disk)
                numbers[lun["number"]] = self._lib.LUN(tpg, lun["number"], disk)
            for name in initiators:
                acl = self._lib.NodeACL(tpg, name)
                _authenticate(acl, credentials)
                for number, lun in numbers.items():
                    self._lib.MappedLUN(acl, number, lun)
            tpg.enable = True
        except BaseException:
            for thing in made:
                thing.delete()
            raise
        self._tpgs[iqn] = tpg

    def _disk(self, iqn: str, number: int, device: str, serial: str, store: str) -> Any:
        name = re.sub(r"[^a-z0-9]", "-", f"{iqn}-{number}")[-16:]
        if store == "block":
            return self._lib.BlockStorageObject(name, dev=device, wwn=serial)
        disk = self._lib.FileIOStorageObject(
            name, dev=device, wwn=serial, write_back=store != "file-write-through"
        )
        if store == "file-lying":
            # Buffered, but reports no cache, so hosts never flush it.
            disk.set_attribute("emulate_write_cache", "0")
        return disk

    def expose(self, iqn: str, address: str, port: int) -> None:
        """Listen for `iqn` at a portal; an IPv6 address in brackets."""
        self._lib.NetworkPortal(self._tpgs[iqn], address, port)

    def parameter(self, iqn: str, name: str, value: str) -> None:
        """Set a parameter that the target offers at login."""
        self._tpgs[iqn].set_parameter(name, value)

    def discovery(self, credentials: dict[str, str]) -> None:
        """Require CHAP at discovery."""
        self._iscsi.discovery_userid = credentials["userid"]
        self._iscsi.discovery_password = credentials["password"]
        self._iscsi.discovery_enable_auth = True

    def clear(self) -> None:
        """Remove all targets and release all disks."""
        for tpg in self._tpgs.values():
            disks = [lun.storage_object for lun in tpg.luns]
            tpg.parent_target.delete()
            for disk in disks:
                disk.delete()
        self._tpgs.clear()
        self._iscsi.discovery_enable_auth = False
        subprocess.run(["busybox", "umount", str(RESERVATIONS)], check=True)


def _authenticate(thing: Any, credentials: dict[str, str]) -> None:
    for name, value in credentials.items():
        setattr(thing, f"chap_{name}", value)


def keep_asking(device: str, ended: threading.Event) -> None:
    """Read a block of `device` every ASK_S seconds, uncached, until `ended`.

    A User-Mode Linux kernel may miss an answer of its disk until the next one comes (HOST_START in
    lab/guest/seed.py). These reads make the next answer come soon.
    """
    handle = os.open(device, os.O_RDONLY | os.O_DIRECT)
    buffer = mmap.mmap(-1, 4096)  # O_DIRECT needs an aligned buffer
    while not ended.wait(ASK_S):
        os.preadv(handle, [buffer], 0)


def main() -> None:
    """Serve requests until standard input ends."""
    load(sys.argv[1])
    ended = threading.Event()
    for _ in range(2):  # an answer to one of them may be missed too
        asking = threading.Thread(target=keep_asking, args=(sys.argv[1], ended), daemon=True)
        asking.start()
    agent = Agent()
    version = (CONFIG / "target/version").read_text().strip()
    print(json.dumps({"version": version, "kernel": os.uname().release}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"ok": getattr(agent, request.pop("do"))(**request)}
        except Exception as error:  # report any error to the array, and go on
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
    ended.set()


if __name__ == "__main__":
    main()
