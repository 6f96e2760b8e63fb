"""Versions in the locks of tested cells, which were tested together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.base.errors import LockError, nearest
from mcore_compat.core.cells import AXES
from mcore_compat.resolve import locks
from mcore_compat.resolve.locks import Lock


@dataclass(frozen=True, kw_only=True)
class LockedVersion:
    """A version that a cell was run with."""

    version: str
    cell: str

    def text(self) -> str:
        return f"{self.cell} was run with {self.version}"


@dataclass(frozen=True, kw_only=True)
class LockedVersions:
    """The locks of tested cells in a folder, each read when it is first needed."""

    folder: Path | None = None
    cells: Sequence[CellRecord] = ()
    _read: dict[str, Lock | None] = field(default_factory=dict)

    def of(
        self, package: str, pins: Mapping[str, str], holders: Sequence[str] = AXES
    ) -> LockedVersion | None:
        """Return the version of a package in the nearest tested cell, among those with the same
        pins of the axes `holders`; None if no lock of these names the package."""
        held = [axis for axis in holders if axis in pins]
        same = [c for c in self.cells if c.checks and all(c.pins[a] == pins[a] for a in held)]
        for cell in sorted(same, key=lambda c: (-_shared(c.pins, pins), c.name))[:MOST]:
            lock = self._lock(cell.name)
            version = lock.version(package) if lock else None
            if version is not None:
                return LockedVersion(version=version, cell=cell.name)
        return None

    def all_of(self, cell: str) -> Mapping[str, str] | None:
        """Return all versions in a cell's lock, by package; None if it has no lock."""
        lock = self._lock(cell)
        return {pin.name: pin.version for pin in lock.all_pins} if lock else None

    def nearest(self, cell: str) -> str:
        """Return a hint for a message: the cell whose name is most like this one."""
        return nearest(cell, [c.name for c in self.cells])

    def _lock(self, cell: str) -> Lock | None:
        if cell not in self._read:
            try:
                self._read[cell] = locks.read(self.folder / f"{cell}.txt") if self.folder else None
            except (OSError, LockError):
                self._read[cell] = None
        return self._read[cell]


NO_LOCKS = LockedVersions()

MOST = 4
"""The number of locks that are read for one package."""


def _shared(pins: Mapping[str, str], other: Mapping[str, str]) -> int:
    return sum(pins[axis] == other.get(axis) for axis in AXES)
