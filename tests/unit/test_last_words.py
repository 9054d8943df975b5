"""What the take-down gathers: nothing of it is taken for whole when it is not."""

from __future__ import annotations

from lab.errors import LabError
from lab.run.last_words import LunFiles


class Kernel:
    """A kernel that writes back, or cannot."""

    def __init__(self, *, runs: bool = True, broken: bool = False) -> None:
        self.runs, self._broken, self.ran = runs, broken, list[list[str]]()

    @property
    def runner(self) -> Kernel:
        return self

    def run(self, argv: list[str]) -> None:
        if self._broken:
            raise LabError("a1: `sync` did not end in time")
        self.ran.append(argv)


class Host:
    def __init__(self) -> None:
        self.told: list[str] = []

    def read_files(self, unwritten: str) -> None:
        self.told.append(unwritten)


def read_after(*kernels: Kernel) -> str:
    files, host = LunFiles(), Host()
    files.write_back(kernels)
    files.read([host])
    (told,) = host.told
    return told


def test_only_the_arrays_own_kernels_write_back():
    on, off = Kernel(), Kernel(runs=False)
    assert read_after(on, off) == ""
    assert (on.ran, off.ran) == ([["sync"]], [])


def test_a_kernel_that_did_not_write_back_leaves_nothing_to_compare():
    assert read_after(Kernel(), Kernel(broken=True)) == "a1: `sync` did not end in time"
