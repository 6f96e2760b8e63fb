"""Sets of tested cells as bit masks: thousands of cells are compared with hundreds of releases for
each cause, and an operation on two masks takes as long as one look at a cell. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

from mcore_compat.analysis.cell_record import CellRecord, CheckTable
from mcore_compat.analysis.nearest_cell import WEIGHTS, distance
from mcore_compat.core.cells import AXES, series_of
from mcore_compat.core.outcomes import HOLDS, CheckOutcome

Mask = int
"""A set of cells: bit n is set if the cell at place n is a member."""


class CellSets:
    """The tested cells of a device class, by what happened in them.

    `running`: by check, the cells with an outcome of it; `working`, `unsupported` and `failing`:
    those with such an outcome; `with_cause`: by fingerprint and check.
    """

    def __init__(self, cells: Sequence[CellRecord]) -> None:
        self._cells = cells
        self.every: Mask = (1 << len(cells)) - 1
        self.running: dict[str, Mask] = {}
        self.working: dict[str, Mask] = {}
        self.unsupported: dict[str, Mask] = {}
        self.failing: dict[str, Mask] = {}
        self.with_cause: dict[str, dict[str, Mask]] = {}
        self._by_version: dict[str, dict[str, Mask]] = {axis: {} for axis in AXES}
        self._by_series: dict[str, dict[str, Mask]] = {axis: {} for axis in AXES}
        alike: dict[CheckTable, Mask] = {}
        for number, cell in enumerate(cells):
            bit = 1 << number
            for axis in AXES:
                _add(self._by_version[axis], cell.pins[axis], bit)
                _add(self._by_series[axis], series_of(cell.pins[axis]), bit)
            alike[cell.table] = alike.get(cell.table, 0) | bit
        for table, here in alike.items():
            for check, outcome in table.checks.items():
                _add(self.running, check, here)
                if outcome in HOLDS:
                    _add(self.working, check, here)
                if outcome == CheckOutcome.UNSUPPORTED:
                    _add(self.unsupported, check, here)
            for check, fingerprint in table.ended.causes.items():
                _add(self.failing, check, here)
                _add(self.with_cause.setdefault(fingerprint, {}), check, here)

    def at(self, pins: Mapping[str, str]) -> Mask:
        """Return the cells with exactly these versions on all axes."""
        found = self.every
        for axis in AXES:
            found &= self._by_version[axis].get(pins.get(axis, ""), 0)
        return found

    def where(self, axis: str, admits: Callable[[str], bool]) -> Mask:
        """Return the cells with an admitted version of an axis; all cells for another package,
        whose version in them is not known."""
        if axis not in self._by_version:
            return self.every
        found = 0
        for version, mask in self._by_version[axis].items():
            found |= mask if admits(version) else 0
        return found

    def grouped(self, key: Callable[[CellRecord], object]) -> dict[object, Mask]:
        """Return the cells by a key."""
        found: dict[object, Mask] = {}
        for number, cell in enumerate(self._cells):
            at = key(cell)
            found[at] = found.get(at, 0) | 1 << number
        return found

    def versions(self, axis: str, mask: Mask) -> set[str]:
        """Return the versions of an axis in some cells."""
        return {version for version, of in self._by_version[axis].items() if of & mask}

    def nearest(self, mask: Mask, pins: Mapping[str, str]) -> CellRecord | None:
        """Return the cell that is nearest to some releases; None if the set is empty."""
        same = [self._by_series[axis].get(series_of(pins[axis]), 0) for axis in AXES]
        parts = [(of, self.every & ~of) for of in same]
        for each in _NEAREST_FIRST:
            near = 0
            for differing in each:
                rest = mask
                for part, differs in zip(parts, differing, strict=True):
                    rest &= part[differs]
                near |= rest
            if near:
                return min(self._members(near), key=lambda cell: distance(pins, cell))
        return None

    def _members(self, mask: Mask) -> Iterator[CellRecord]:
        while mask:
            lowest = mask & -mask
            yield self._cells[lowest.bit_length() - 1]
            mask ^= lowest


def _axes_by_distance() -> list[list[tuple[bool, ...]]]:
    """Return all sets of axes (for each axis, whether it is a member), those together that are
    equally far if their series differ."""
    by_distance: dict[int, list[tuple[bool, ...]]] = {}
    for members in itertools.product((False, True), repeat=len(AXES)):
        far = sum(WEIGHTS[axis] for axis, member in zip(AXES, members, strict=True) if member)
        by_distance.setdefault(far, []).append(members)
    return [by_distance[far] for far in sorted(by_distance)]


_NEAREST_FIRST = _axes_by_distance()


def _add(sets: dict[str, Mask], key: str, cells: Mask) -> None:
    sets[key] = sets.get(key, 0) | cells
