"""Plug-ins of installed packages, found by entry point and loaded on use."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from lab.errors import BadInput, unknown

K = TypeVar("K")


class Registry(Collection[str], Generic[K]):
    """The names of the entry points of `group`, `default` first; each is an object of `kind`.

    Listing the names imports nothing, so a broken package does not affect the others. `what` is the
    word for such an object in messages.
    """

    def __init__(self, group: str, what: str, kind: type[K], default: str) -> None:
        self.group, self.what, self.default = group, what, default
        self._kind = kind

    def _points(self) -> dict[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = {}
        # A package that is on the path twice counts once: its entry points are equal.
        for point in sorted(
            set(entry_points(group=self.group)), key=lambda one: (one.name, one.value)
        ):
            found.setdefault(point.name, []).append(point)
        return dict(sorted(found.items(), key=lambda one: one[0] != self.default))

    def __iter__(self) -> Iterator[str]:
        return iter(self._points())

    def __len__(self) -> int:
        return len(self._points())

    def __contains__(self, name: object) -> bool:
        return name in self._points()

    def find(self, name: str) -> K:
        """The object with this name.

        Raises BadInput if the name is unknown, if two packages have it, if the object cannot be
        imported, or if it is not of `kind`.
        """
        points = self._points()
        if name not in points:
            if not points:
                raise BadInput(f"no {self.what} is installed; install this package: make setup")
            raise unknown(self.what, name, points)
        if len(points[name]) > 1:
            both = " and ".join(_origin(point) for point in points[name])
            raise BadInput(f"{self.what} {name!r}: {both} bring it; uninstall one")
        return self._load(points[name][0])

    def every(self) -> list[K]:
        """All of them, whatever their names. Raises BadInput for one that cannot be imported."""
        return [self._load(point) for same in self._points().values() for point in same]

    def _load(self, point: EntryPoint) -> K:
        place = f"{self.what} {point.name!r}: {_origin(point)}"
        try:
            found = point.load()
        except BadInput:  # it has its place already
            raise
        except (Exception, SystemExit) as wrong:
            reason = f"{type(wrong).__name__}: {wrong}"
            raise BadInput(f"{place} cannot be imported: {reason}") from wrong
        if not isinstance(found, self._kind):
            wanted = f"{self._kind.__module__}.{self._kind.__qualname__}"
            raise BadInput(f"{place} is no {wanted}")
        return found


def _origin(point: EntryPoint) -> str:
    package = f" of {point.dist.name}" if point.dist else ""
    return f"{point.value}{package}"
