"""Release images: a read-only root of a Debian release with its User-Mode Linux kernel.

An image is a folder of the cache: `root.ext4` (the guest's root), `uml/` (the kernel program with
its libraries, since a newer program does not start on an older C library) and `manifest.json`
(versions). Its name has a digest of the recipe, and it is renamed into place when complete.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO

from lab.commands import require
from lab.errors import BadInput, LabError, Missing, unknown

RELEASES = ("bookworm", "trixie", "forky")
DEFAULT_RELEASE = "trixie"

PACKAGES = (
    "user-mode-linux", "busybox-static", "kmod", "iproute2", "dropbear-bin",
    "open-iscsi", "sg3-utils", "python3-rtslib-fb",
)  # fmt: skip

_MODULES = "./usr/lib/uml/modules/*/kernel"
EXCLUDED = (
    "./dev/*", "./boot/*", "./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*",
    "./usr/share/perl/*", "./usr/lib/x86_64-linux-gnu/perl*/*", "./usr/share/zoneinfo/*",
    "./usr/share/bash-completion/*",
    "./usr/lib/udev/hwdb.d/*", "./usr/lib/udev/hwdb.bin", "./usr/bin/perl5*",
    "./usr/lib/x86_64-linux-gnu/gconv/*", "./usr/lib/gconv/*", "./usr/share/info/*",
    "./usr/share/i18n/*", "./var/cache/*", "./var/lib/apt/*", "./var/log/*",
    "./var/lib/dpkg/info/*",
    "./usr/lib/python3/dist-packages/*/tests/*", "./usr/lib/systemd/*", "./usr/share/X11/*",
    "./usr/bin/apt*", "./usr/lib/apt/*",
    *(f"{_MODULES}/fs/{d}/*" for d in (
        "9p", "affs", "afs", "befs", "bfs", "btrfs", "cachefs", "ceph", "coda", "cramfs", "dlm",
        "ecryptfs", "erofs", "exfat", "f2fs", "fat", "freevxfs", "gfs2", "hfs", "hfsplus", "hpfs",
        "isofs", "jffs2", "jfs", "minix", "netfs", "nfs", "nfs_common", "nfsd", "nilfs2", "nls",
        "ntfs", "ntfs3", "ocfs2", "omfs", "orangefs", "qnx4", "qnx6", "reiserfs", "romfs", "smb",
        "sysv", "ubifs", "udf", "ufs", "xfs", "zonefs")),
    *(f"{_MODULES}/net/{d}/*" for d in (
        "6lowpan", "9p", "appletalk", "atm", "ax25", "batman-adv", "bluetooth", "can", "ceph",
        "dccp", "ieee802154", "l2tp", "lapb", "mac802154", "mac80211", "mpls", "mptcp", "netrom",
        "nfc", "phonet", "rds", "rose", "rxrpc", "sctp", "smc", "sunrpc", "tipc", "wireless",
        "x25", "xfrm")),
    *(f"{_MODULES}/drivers/{d}/*" for d in ("mtd", "ubi", "media", "usb", "hid", "staging")),
)  # fmt: skip
"""tar patterns of files left out of the image: the guest boots its own init, without systemd."""

CONTAINED = (
    "setpriv", "--pdeathsig", "KILL", "--",
    "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
)  # fmt: skip
"""Runs a command as root; its mounts and processes end with it, and it ends with its parent."""
_REMOVED_PROGRAM = "./usr/bin/perl"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Image:
    """A complete release image: `path` is its folder."""

    release: str
    path: Path

    @property
    def root(self) -> Path:
        """The root file system, ext4, never written to."""
        return self.path / "root.ext4"

    @property
    def kernel_tree(self) -> Path:
        """The folder that the kernel program has as its root (chroot)."""
        return self.path / "uml"

    @property
    def versions(self) -> dict[str, str]:
        """Package names to versions, as installed in the image."""
        manifest = json.loads((self.path / "manifest.json").read_text())
        return dict(manifest["versions"])


def cache_root() -> Path:
    """The folder of all images: $LAB_CACHE, else failover-lab in the user's cache folder."""
    own = os.environ.get("LAB_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "failover-lab"


def _init_script() -> bytes:
    return resources.files("lab.guest").joinpath("files/init").read_bytes()


def digest() -> str:
    """Twelve hexadecimal digits that change with the recipe."""
    recipe = json.dumps([PACKAGES, EXCLUDED, _init_script().decode(), "ext4-1"])
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def find(release: str) -> Image | None:
    """The image of `release`, or None if none was built with the present recipe."""
    if release not in RELEASES:
        raise unknown("release", release, RELEASES)
    path = cache_root() / f"{release}-{digest()}"
    try:
        (path / "manifest.json").stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as refused:
        raise BadInput(f"{path}: {refused.strerror}; set LAB_CACHE to a folder of yours") from None
    return Image(release, path)


def ensure(release: str, say: Say) -> Image:
    """The image of `release`, built first if there is none; `say` gets the progress."""
    found = find(release)
    return found if found else build(release, say)


def scratch() -> Path:
    """An empty folder of the cache, where a sandbox can mount a file system.

    Raises BadInput if it does not exist and cannot be made.
    """
    path = cache_root() / ".scratch"
    try:
        with _for_everybody():
            path.mkdir(parents=True, exist_ok=True)
    except OSError as refused:
        raise _unwritable(path.parent, refused) from None
    return path


@contextmanager
def _for_everybody() -> Iterator[None]:
    """What is made meanwhile, all users may read: images are shared, and guests are such users."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def _unwritable(root: Path, refused: OSError) -> BadInput:
    return BadInput(
        f"the cache {root} cannot be written ({refused.strerror}); set LAB_CACHE to a folder of "
        "yours"
    )


def build(release: str, say: Say, *, fresh: bool = False) -> Image:
    """Build the image of `release` in the cache (again, if `fresh`) and return it.

    Takes about half a minute and needs Debian's package archive. Raises BadInput for an unknown
    release, Missing without the tools or the right to make one, LabError when a step fails.
    """
    old = find(release)
    if old and not fresh:
        return old
    mmdebstrap = require("mmdebstrap", "mmdebstrap")
    mke2fs = require("mke2fs", "e2fsprogs")
    root = cache_root()
    scratch()  # this makes the cache too; users who may only read it find both
    try:
        with _for_everybody():
            lock = (root / f".lock-{release}").open("w")
    except OSError as refused:
        raise _unwritable(root, refused) from None
    with _for_everybody(), _locked(lock, say):
        old = find(release)
        if old and not fresh:
            return old
        for stale in root.glob(f".building-{release}-*"):
            shutil.rmtree(stale, ignore_errors=True)  # we hold the lock: nobody builds in it
        target = root / f"{release}-{digest()}"
        work = old_away = root / f".building-{release}-"
        try:
            work = Path(tempfile.mkdtemp(prefix=work.name, dir=root))
            old_away = work.with_name(work.name + "-old")
            work.chmod(0o755)
            _unpack(mmdebstrap, release, work / "tree", say)
            say("making the file system")
            _finish(work, release, mke2fs)
            if target.exists():
                target.rename(old_away)  # readers must never see a partly removed image
            work.rename(target)
        except OSError as failed:
            raise LabError(f"the image of {release} was not built: {failed}") from None
        finally:
            shutil.rmtree(work, ignore_errors=True)
            shutil.rmtree(old_away, ignore_errors=True)
    return Image(release, target)


@contextmanager
def _locked(handle: IO[str], say: Say) -> Iterator[None]:
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process builds it; waiting")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _unpack(mmdebstrap: str, release: str, tree: Path, say: Say) -> None:
    tree.mkdir()
    if os.geteuid() != 0 and not (shutil.which("newuidmap") and _has_subuids()):
        raise Missing(
            "an image is built by an ordinary user only with sub-user ids: sudo apt-get install "
            "uidmap, then sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 "
            "$USER; or share one that root built (LAB_CACHE)"
        )
    make = [
        mmdebstrap, "--variant=apt", "--include=" + ",".join(PACKAGES),
        "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        release, "-",
    ]  # fmt: skip
    if os.geteuid() == 0:
        # For an ordinary user mmdebstrap makes its own namespaces and temporary folder.
        make = [*CONTAINED, *make]
    untar = ["tar", "-x", "-C", str(tree), "--no-same-owner", "--wildcards"]
    untar += [f"--exclude={pattern}" for pattern in (*EXCLUDED, _REMOVED_PROGRAM)]
    with tempfile.TemporaryFile("w+") as errors:
        maker = subprocess.Popen(
            make, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(tree.parent)} if os.geteuid() == 0 else None,
        )  # fmt: skip
        taker = subprocess.Popen(untar, stdin=maker.stdout, stderr=errors)
        assert maker.stdout
        assert maker.stderr
        maker.stdout.close()
        seen: list[str] = []
        try:
            for raw in maker.stderr:
                line = raw.decode(errors="replace").rstrip()
                seen.append(line)
                if line.startswith("I: "):
                    say(line[3:].rstrip("."))
            made, taken = maker.wait(), taker.wait()
        finally:
            for process in (maker, taker):
                if process.poll() is None:
                    process.terminate()
                    process.wait()
        if made or taken:
            errors.seek(0)
            tail = "\n".join([*seen[-12:], errors.read()[-800:]])
            raise LabError(
                f"mmdebstrap could not make {release} (its status {made}, that of tar {taken}); "
                f"it needs Debian's package archive and room in {tree.parent}:\n{tail}"
            )


def _has_subuids() -> bool:
    names = {str(os.getuid())}
    with suppress(KeyError):  # a user id without a name
        names.add(pwd.getpwuid(os.getuid()).pw_name)
    try:
        table = Path("/etc/subuid").read_text()
    except OSError:
        return False
    return any(line.split(":")[0] in names for line in table.splitlines())


def _finish(work: Path, release: str, mke2fs: str) -> None:
    tree = work / "tree"
    versions = _versions(tree)
    for folder in (
        "dev",
        "proc",
        "sys",
        "run",
        "tmp",
        "root",
        "var/log",
        "var/cache",
        "var/lib/apt",
    ):
        (tree / folder).mkdir(parents=True, exist_ok=True)
    (tree / "tmp").chmod(0o1777)
    modules = tree / "lib/modules"
    modules.parent.mkdir(exist_ok=True)
    if not modules.exists():
        modules.symlink_to("/usr/lib/uml/modules")
    init = tree / "lab-init"
    init.write_bytes(_init_script())
    init.chmod(0o755)
    resolver = tree / "etc/resolv.conf"
    resolver.unlink(missing_ok=True)  # a link would lead out of the tree
    resolver.write_text("")
    _copy_kernel(tree, work / "uml")
    # Room for what the guest writes: its writes go to memory, but the file system's size is fixed.
    used = sum(f.lstat().st_blocks * 512 for f in tree.rglob("*") if not f.is_symlink())
    size_mib = used // 2**20 * 115 // 100 + 128
    image = work / "root.ext4"
    with image.open("wb") as out:
        out.truncate(size_mib * 2**20)
    # No journal: the image is never written, and a guest's writes are lost with the guest.
    command = [
        mke2fs, "-q", "-t", "ext4", "-O", "^has_journal,^resize_inode", "-m", "0",
        "-E", "root_owner=0:0", "-d", str(tree), str(image),
    ]  # fmt: skip
    if os.geteuid() != 0:
        command = ["unshare", "--map-root-user", *command]  # files of ours become root's
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"mke2fs ended with status {done.returncode}: {done.stderr.strip()}")
    shutil.rmtree(tree)
    manifest = {"release": release, "digest": digest(), "versions": versions}
    (work / "manifest.json").write_text(json.dumps(manifest, indent=1))


def _copy_kernel(tree: Path, target: Path) -> None:
    libraries = tree / "usr/lib/x86_64-linux-gnu"
    for source, place in (
        (tree / "usr/bin/linux.uml", "usr/bin"),
        (libraries / "libc.so.6", "lib/x86_64-linux-gnu"),
        (libraries / "libgcc_s.so.1", "lib/x86_64-linux-gnu"),  # loaded when the kernel ends
        (libraries / "ld-linux-x86-64.so.2", "lib64"),
    ):
        (target / place).mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target / place / source.name, follow_symlinks=True)
    (tree / "usr/bin/linux.uml").unlink()


def _versions(tree: Path) -> dict[str, str]:
    versions: dict[str, str] = {}
    name = ""
    for line in (tree / "var/lib/dpkg/status").read_text(errors="replace").splitlines():
        if line.startswith("Package: "):
            name = line[9:]
        elif line.startswith("Version: "):
            versions[name] = line[9:]
    return versions
