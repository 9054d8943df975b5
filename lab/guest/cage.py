"""Cages: what a guest's kernel process can reach of this machine, and nothing else.

A cage is a root of the guest's own: the kernel program, its own disks, four devices. Only `/work`
can be written to, and the disks that it is given. Nothing in a cage is trusted: the lab writes to
no path that a guest could have made a link. The process itself is shut in by lab/guest/confine.py.
"""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path

from lab import sandbox
from lab.commands import LocalRunner
from lab.errors import CommandFailed, Missing
from lab.guest.image import Image

_CONFINE = Path(__file__).with_name("confine.py")
_DEVICES = ("null", "zero", "random", "urandom")
_NOBODY = 65530
"""The user and group id of guests for the machine, when root runs the lab. Debian and systemd give
it to nobody (Debian Policy 9.2.2; systemd, UIDS-GIDS)."""


def _identity() -> int:
    """The id that guests have on this machine: an unused one, else the only one that there is."""
    for kind in ("uid", "gid"):
        ranges = [line.split() for line in Path(f"/proc/self/{kind}_map").read_text().splitlines()]
        if not any(int(first) <= _NOBODY < int(first) + int(n) for first, _, n in ranges):
            return 0  # a user namespace of one ordinary user, whom all its ids mean
    return _NOBODY if os.geteuid() == 0 else os.geteuid()


def own_users() -> list[str]:
    """The command prefix that runs a command in a user namespace of its own.

    It is root there. For the machine it is the user that guests are.
    """
    become: list[str] = []
    if _identity() == _NOBODY:
        # With the right to make namespaces, where that is for root only.
        become = [
            "setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups",
            "--inh-caps=+sys_admin", "--ambient-caps=+sys_admin",
        ]  # fmt: skip
    return [*become, "unshare", "--user", "--map-root-user"]


@dataclass(frozen=True)
class Cage:
    """The cage of one guest. `root` is its root folder; `seed` is the file that it has as /seed.

    `lent` gets the files that guests may write to now.
    """

    root: Path
    seed: Path
    lent: set[Path]

    @property
    def work(self) -> Path:
        """The folder that the guest writes to. It may hold links: follow none."""
        return self.root / "work"

    def argv(self, node: int, program: list[str]) -> list[str]:
        """The command that runs `program` in the cage, in the network of process `node`.

        `node` must have been started with own_users().
        """
        python = [sys.executable, "-I", "-S", str(_CONFINE)]
        return [*python, str(node), str(self.root), *program]

    def give(self, disk: Path) -> str:
        """Let the guest read and write the file `disk`, also while it runs; its path there."""
        if _identity() == _NOBODY:
            # By its group: the file stays the user's, whatever ends the lab.
            os.chown(disk, -1, _NOBODY)
            disk.chmod(0o660)
            self.lent.add(disk)
        at = self.root / "luns" / disk.name
        at.touch(exist_ok=False)
        sandbox.bind(disk, at)
        return f"/luns/{disk.name}"

    def take_back(self, inside: str) -> None:
        """Undo give()."""
        at = self.root / inside.lstrip("/")
        sandbox.unmount(at)
        at.unlink()


@dataclass(frozen=True)
class GuestSpace:
    """Where the cages of a run's guests are: a folder in memory."""

    image: Image
    folder: Path
    lent: set[Path] = field(default_factory=set)

    @classmethod
    def prepare(cls, image: Image, work: Path) -> GuestSpace:
        """Check the machine, and make the folder below `work`, a tmpfs; needs the sandbox.

        Raises Missing if guests cannot have users of their own, or cannot read the image.
        """
        try:
            LocalRunner("lab").run([*own_users(), "true"])
        except CommandFailed as failed:
            raise Missing(
                f"this machine forbids user namespaces ({failed.output.strip()}); "
                f"{sandbox.HOW_TO_ALLOW}"
            ) from None
        if _identity() == _NOBODY and not image.root.stat().st_mode & stat.S_IROTH:
            raise Missing(
                f"{image.root}: guests cannot read it; build it again: "
                f"lab image build {image.release} --fresh"
            )
        folder = work / "cages"
        folder.mkdir()
        return cls(image, folder)

    def cage(self, name: str) -> Cage:
        """Make the cage of the guest `name`."""
        root, seed = self.folder / name, self.folder / f"{name}.seed"
        root.mkdir()
        sandbox.mount_tmpfs(root)
        for folder in ("usr", "lib", "lib64", "dev", "proc", "image", "work", "luns"):
            (root / folder).mkdir()
            (root / folder).chmod(0o755)  # whatever the umask
        for folder in ("usr", "lib", "lib64"):
            sandbox.bind(self.image.kernel_tree / folder, root / folder, read_only=True)
        for path in (seed, root / "seed", root / "image/root.ext4"):
            path.touch()
        seed.chmod(0o644)
        sandbox.bind(seed, root / "seed", read_only=True)
        sandbox.bind(self.image.root, root / "image/root.ext4", read_only=True)
        for device in _DEVICES:
            (root / "dev" / device).touch()
            sandbox.bind(Path("/dev") / device, root / "dev" / device)
        identity = _identity()
        os.chown(root / "work", identity, identity)
        (root / "work").chmod(0o700)
        sandbox.bind(root / "work", root / "work")
        # What is mounted there later, the guest sees too (mount_namespaces(7)).
        sandbox.mount_tmpfs(root / "luns")
        sandbox.share(root / "luns")
        sandbox.make_read_only(root)
        return Cage(root, seed, self.lent)

    def close(self) -> None:
        """Take back what guests could write to, when they have ended."""
        for disk in self.lent:
            os.chown(disk, -1, os.getegid())
            disk.chmod(0o600)
