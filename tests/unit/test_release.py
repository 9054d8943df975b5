"""Release images: made whole or not at all. Debian's archive is stood in for by a small script."""

from __future__ import annotations

import fcntl
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from lab.errors import BadInput, LabError, Missing
from lab.guest import image as release
from lab.waiting import wait_for

LIBRARIES = "usr/lib/x86_64-linux-gnu"
FILES = {
    "usr/bin/linux.uml": "kernel",
    "usr/bin/perl": "not wanted",
    "usr/share/doc/x/README": "not wanted either",
    "etc/resolv.conf": "nameserver 192.0.2.1",
    f"{LIBRARIES}/libc.so.6": "c",
    f"{LIBRARIES}/libgcc_s.so.1": "gcc",
    f"{LIBRARIES}/ld-linux-x86-64.so.2": "ld",
    "var/lib/dpkg/status": "Package: open-iscsi\nVersion: 2.1.11-1\n\nPackage: tgt\nVersion: 1:9\n",
}


def bootstrap(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in {f"./{n}": t for n, t in files.items()}.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("./lib")
        link.type, link.linkname = tarfile.SYMTYPE, "usr/lib"
        archive.addfile(link)
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """A cache of our own; PATH leads to our own mmdebstrap first; no sub-user ids are needed."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}:/usr/sbin:/sbin")
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(release, "_has_subuids", lambda: True)
    archive = tmp_path / "archive.tar"
    archive.write_bytes(bootstrap(FILES))
    mmdebstrap(tmp_path, f'echo "I: unpacking [/archives]..." >&2; cat {archive}')
    return tmp_path / "cache"


def mmdebstrap(folder: Path, script: str) -> None:
    program = folder / "bin" / "mmdebstrap"
    program.write_text(f'#!/bin/sh\necho "$@" > {folder}/asked\n{script}\n')
    program.chmod(0o755)


def build(**options: bool) -> tuple[release.Image, list[str]]:
    said: list[str] = []
    return release.build("trixie", said.append, **options), said


def left(cache: Path) -> list[str]:
    """What is in the cache but locks and the folder that stays empty."""
    assert not [*release.scratch().iterdir()]
    names = {path.name for path in cache.iterdir()} - {release.scratch().name}
    return sorted(name for name in names if not name.startswith(".lock"))


pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="an ordinary user needs newuidmap and a user namespace"
)


def test_an_image_is_whole(cache, tmp_path):
    assert release.find("trixie") is None
    image, said = build()
    assert said[0] == "unpacking [/archives]"
    assert image == release.find("trixie")
    assert image.path == cache / f"trixie-{release.digest()}"
    assert image.versions == {"open-iscsi": "2.1.11-1", "tgt": "1:9"}
    assert (image.kernel_tree / "usr/bin/linux.uml").read_text() == "kernel"
    assert (image.kernel_tree / "lib64/ld-linux-x86-64.so.2").read_text() == "ld"
    assert sorted(path.name for path in image.path.iterdir()) == [
        "manifest.json", "root.ext4", "uml"
    ]  # fmt: skip
    asked = (tmp_path / "asked").read_text()
    assert asked.split()[-2:] == ["trixie", "-"]
    assert all(package in asked for package in release.PACKAGES)
    assert left(cache) == [image.path.name]
    for name, there in {
        "/lab-init": True, "/etc/resolv.conf": True, "/usr/bin/perl": False,
        "/usr/share/doc/x": False, "/usr/bin/linux.uml": False, "/proc": True,
    }.items():  # fmt: skip
        shown = subprocess.run(
            ["debugfs", "-R", f"stat {name}", str(image.root)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert ("Inode:" in shown.stdout) == there, name


def test_it_is_built_once(tmp_path):
    image, _ = build()
    before = image.root.stat()
    mmdebstrap(tmp_path, "exit 1")
    again, said = build()
    assert (again, said) == (image, [])
    assert release.ensure("trixie", said.append) == image
    assert image.root.stat().st_ino == before.st_ino


def test_fresh_builds_it_again(tmp_path, cache):
    image, _ = build()
    before = image.root.stat().st_ino
    again, _ = build(fresh=True)
    assert again.root.stat().st_ino != before
    assert left(cache) == [image.path.name]


def test_a_fresh_one_that_fails_leaves_the_old_one(tmp_path, cache):
    image, _ = build()
    mmdebstrap(tmp_path, "echo 'E: no such archive' >&2; exit 7")
    with pytest.raises(LabError, match="(?s)could not make trixie.*status 7.*E: no such archive"):
        build(fresh=True)
    assert release.find("trixie") == image
    assert image.versions
    assert left(cache) == [image.path.name]


@pytest.mark.parametrize("step", ["_unpack", "_finish", "_copy_kernel", "_versions"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_build_leaves_nothing(cache, monkeypatch, step, error):
    def breaks(*_: object) -> None:
        raise error

    monkeypatch.setattr(release, step, breaks)
    expected = KeyboardInterrupt if error is KeyboardInterrupt else LabError
    with pytest.raises(expected):
        build()
    assert left(cache) == []
    assert release.find("trixie") is None


@pytest.mark.parametrize("fresh", [False, True])
def test_a_killed_build_leaves_nothing_that_looks_complete(tmp_path, cache, fresh):
    """SIGKILL in the middle: no clean-up of its own runs."""
    old = build()[0] if fresh else None
    mmdebstrap(tmp_path, f"echo $$ > {tmp_path}/pid; echo begun >> {tmp_path}/begun; exec sleep 60")
    program = f"from lab.guest import image; image.build('trixie', print, fresh={fresh})"
    building = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    try:
        wait_for("it to begin", (tmp_path / "begun").exists, seconds=10)
    finally:
        building.kill()
        building.wait()
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert release.find("trixie") == old
    assert [name for name in left(cache) if name.startswith(".building-trixie-")]
    mmdebstrap(tmp_path, f"cat {tmp_path}/archive.tar")
    image, _ = build(fresh=fresh)
    assert image.versions
    assert left(cache) == [image.path.name]


def test_the_swap_of_a_fresh_one_is_never_half_an_image(cache, monkeypatch):
    """Whatever is deleted is not at the image's place."""
    image, _ = build()
    real = release.shutil.rmtree

    def watched(path: Path, **options: bool) -> None:
        assert Path(path) != image.path
        real(path, **options)

    monkeypatch.setattr(release.shutil, "rmtree", watched)
    build(fresh=True)


def test_a_second_builder_waits_and_finds_it_built(cache, monkeypatch):
    cache.mkdir()
    waits = threading.Event()
    said: list[str] = []

    def say(what: str) -> None:
        said.append(what)
        waits.set()

    found: list[release.Image] = []
    with (cache / ".lock-trixie").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        second = threading.Thread(target=lambda: found.append(release.build("trixie", say)))
        second.start()
        assert waits.wait(5)
        assert said == ["another process builds it; waiting"]
        whole = cache / f"trixie-{release.digest()}"
        whole.mkdir()
        (whole / "manifest.json").write_text('{"versions": {}}')
    second.join(5)
    assert found == [release.Image("trixie", whole)]
    assert len(said) == 1


def test_the_digest_changes_with_the_recipe(monkeypatch):
    seen = {release.digest()}
    assert release.digest() in seen
    for name, value in {
        "PACKAGES": (*release.PACKAGES, "hello"),
        "EXCLUDED": release.EXCLUDED[1:],
        "_init_script": lambda: b"#!/bin/sh\n",
    }.items():
        with monkeypatch.context() as patch:
            patch.setattr(release, name, value)
            seen.add(release.digest())
    assert len(seen) == 4
    assert all(len(digest) == 12 and int(digest, 16) >= 0 for digest in seen)


def test_another_recipe_is_another_image(monkeypatch):
    image, _ = build()
    monkeypatch.setattr(release, "PACKAGES", ("hello",))
    assert release.find("trixie") is None
    assert build()[0].path != image.path


def test_an_unknown_release():
    for ask in (release.find, lambda name: release.build(name, print)):
        with pytest.raises(BadInput, match="no release 'potato'; there are bookworm, trixie"):
            ask("potato")


@pytest.mark.parametrize("place", ["file/cache", "file", "locked"])
def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch, place):
    (tmp_path / "file").write_text("")
    (tmp_path / "locked" / ".lock-trixie").mkdir(parents=True)
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / place))
    assert release.find("trixie") is None
    with pytest.raises(BadInput, match=f"{place} cannot be written .*set LAB_CACHE"):
        build()


def test_a_cache_that_cannot_be_read(cache, monkeypatch):
    def refuse(self: Path, **_: bool) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(BadInput, match="Permission denied; set LAB_CACHE"):
        release.find("trixie")


@pytest.mark.parametrize(("program", "package"), [("mmdebstrap", "mmdebstrap"),
                                                  ("mke2fs", "e2fsprogs")])  # fmt: skip
def test_without_the_tools(tmp_path, cache, monkeypatch, program, package):
    for name in {"mmdebstrap", "mke2fs"} - {program}:
        (tmp_path / "some").mkdir(exist_ok=True)
        (tmp_path / "some" / name).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path / "some"))
    with pytest.raises(Missing, match=f"{program} .*apt-get install {package}"):
        build()
    assert not cache.exists()


def test_a_tar_that_fails_is_not_blamed_on_mmdebstrap(tmp_path, cache):
    mmdebstrap(tmp_path, "echo this is no archive; exit 0")
    with pytest.raises(LabError, match="(?s)status 0, that of tar 2.*room in .*tar: "):
        build()
    assert left(cache) == []


def test_a_link_does_not_lead_out_of_the_tree(tmp_path):
    outside = tmp_path / "resolv.conf"
    outside.write_text("the machine's own")
    (tmp_path / "tree").mkdir()
    tree = tmp_path / "tree"
    subprocess.run(["tar", "-x", "-C", str(tree)], input=bootstrap(FILES), check=True)
    (tree / "etc/resolv.conf").unlink()
    (tree / "etc/resolv.conf").symlink_to(outside)
    release._finish(tmp_path, "trixie", release.require("mke2fs", "e2fsprogs"))
    assert outside.read_text() == "the machine's own"


def test_an_ordinary_user_without_sub_user_ids(monkeypatch, cache):
    monkeypatch.setattr(release, "_has_subuids", lambda: False)
    monkeypatch.setattr(release.os, "geteuid", lambda: 1000)
    with pytest.raises(Missing, match=r"usermod --add-subuids .*LAB_CACHE"):
        build()
    assert left(cache) == []


def test_the_place_of_the_cache(monkeypatch):
    monkeypatch.delenv("LAB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert release.cache_root() == Path("/x/failover-lab")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/me")
    assert release.cache_root() == Path("/home/me/.cache/failover-lab")


@pytest.mark.skipif(bool(os.geteuid()), reason="an ordinary user's mmdebstrap contains itself")
def test_what_builds_an_image_ends_with_its_parent(tmp_path):
    work = f"mount -t tmpfs none {tmp_path} && echo mounted && sleep 60"
    parent = f"import subprocess; subprocess.run({[*release.CONTAINED, 'sh', '-c', work]!r})"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"mounted\n"
        assert not tmp_path.is_mount()
        process.kill()
        assert process.stdout.read() == b""  # until all who could write to it have ended
