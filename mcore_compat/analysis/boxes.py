"""CellState cells → rules: the smallest boxes over the axes' versions that hold a failure. Pure.

A box holds all cells in which the failure was seen and none in which the same checks work; where
that can be, none either in which they fail otherwise or could not be asked.

A set of cells is a number here, whose bits are the cells' places: of a matrix of thousands of
cells, hundreds of failures are asked for.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence

from mcore_compat.analysis.rules import (
    NO_CHECKS,
    Beside,
    Bound,
    CellState,
    FailureState,
    Rule,
    inside,
)
from mcore_compat.core.cells import AXES, parsed

MOST_AXES = 3
"""A rule over more axes than these explains nothing."""

Answers = Mapping[FailureState, int]
"""Which cells say what of a failure; one cell says one thing, or nothing."""


def bits(places: Iterable[int], size: int) -> int:
    """The set of these places, all below `size`."""
    found = bytearray(size // 8 + 1)
    for place in places:
        found[place >> 3] |= 1 << (place & 7)
    return int.from_bytes(found, "little")


def places(cells: int) -> Iterator[int]:
    """The places of a set, in order."""
    while cells:
        lowest = cells & -cells
        yield lowest.bit_length() - 1
        cells ^= lowest


class Grid:
    """Cells by place, and by their versions."""

    def __init__(self, cells: Sequence[tuple[str, Mapping[str, str]]]) -> None:
        self.cells = cells
        self.all = (1 << len(cells)) - 1
        by: dict[str, dict[str, list[int]]] = {axis: {} for axis in AXES}
        for place, (_, pins) in enumerate(cells):
            for axis in AXES:
                by[axis].setdefault(pins[axis], []).append(place)
        self._at = {
            axis: {v: bits(mine[v], len(cells)) for v in sorted(mine, key=parsed)}
            for axis, mine in by.items()
        }

    def at(self, axis: str, version: str) -> int:
        """The cells with a version of an axis."""
        return self._at[axis].get(version, 0)

    def versions(self, axis: str, cells: int) -> list[str]:
        """The versions of an axis that some cells have, oldest first."""
        return [version for version, mine in self._at[axis].items() if mine & cells]

    def within(self, axis: str, low: str, high: str) -> int:
        """The cells with a version in a closed interval."""
        found = 0
        for version, mine in self._at[axis].items():
            if inside(version, low, high):
                found |= mine
        return found

    def seen(self, said: Answers) -> tuple[CellState, ...]:
        """What each cell said, by place."""
        found = sorted((place, one) for one, cells in said.items() for place in places(cells))
        return tuple(
            CellState(cell=self.cells[place][0], pins=self.cells[place][1], state=one)
            for place, one in found
        )

    def names(self, cells: int) -> tuple[str, ...]:
        return tuple(self.cells[place][0] for place in places(cells))

    def asked(self, said: Answers, axis: str, version: str) -> bool | None:
        """As `rules.Asked`."""
        here = self.at(axis, version)
        if not any(here & cells for cells in said.values()):
            return None
        return bool(here & (said.get(FailureState.FAILS, 0) | said.get(FailureState.WORKS, 0)))


def rules_for(seen: Sequence[CellState]) -> tuple[Rule, ...]:
    """The rules of cells that were seen."""
    return boxes(*gridded(seen))


def gridded(seen: Sequence[CellState]) -> tuple[Grid, Answers]:
    """Cells that were seen, by place."""
    said: dict[FailureState, list[int]] = {}
    for place, one in enumerate(seen):
        said.setdefault(one.state, []).append(place)
    grid = Grid([(one.cell, one.pins) for one in seen])
    return grid, {one: bits(mine, len(seen)) for one, mine in said.items()}


def boxes(grid: Grid, said: Answers, checks: tuple[str, ...] = ()) -> tuple[Rule, ...]:
    """The smallest rules: of those that hold the fewest cells in which the checks work, then the
    fewest in which they fail otherwise or are blocked, all those over the fewest axes.

    Where every rule holds cells that work, one of the best. None where nothing failed or, as no
    rule could then be wrong, nothing works.
    """
    made = _worths(grid, said)
    if not made:
        return ()
    least = min(made.values())
    best = [axes for axes, worth in made.items() if worth == least]
    if least[0]:
        best = best[:1]
    return tuple(_rule(grid, said, axes, checks) for axes in best)


def wider(grid: Grid, said: Answers) -> tuple[Rule, ...]:
    """Rules over as few axes that hold no cell that works either, but more in which the checks
    fail otherwise or are blocked: what fails there may hide that they are right."""
    made = _worths(grid, said)
    least = min(made.values(), default=(1, 0, 0))
    clean = [axes for axes, (works, *_) in made.items() if not works] if not least[0] else []
    smallest = [axes for axes in clean if not any(set(one) < set(axes) for one in clean)]
    return tuple(
        _rule(grid, said, axes)
        for axes in smallest
        if len(axes) <= least[2] and made[axes][1] > least[1]
    )


def _worths(grid: Grid, said: Answers) -> dict[tuple[str, ...], tuple[int, int, int]]:
    """By axes: how many cells the box over them holds in which the checks work, how many in which
    they fail otherwise or are blocked, and how many axes they are. The least is the best."""
    broken, works = said.get(FailureState.FAILS, 0), said.get(FailureState.WORKS, 0)
    if not broken or not works:
        return {}
    not_so = said.get(FailureState.OTHERWISE, 0) | said.get(FailureState.BLOCKED, 0)
    within = {axis: _within(grid, broken, axis) for axis in AXES}
    made: dict[tuple[str, ...], tuple[int, int, int]] = {}
    for size in range(1, MOST_AXES + 1):
        for axes in itertools.combinations(AXES, size):
            held = functools.reduce(operator.and_, (within[axis] for axis in axes))
            made[axes] = (held & works).bit_count(), (held & not_so).bit_count(), size
        if (0, 0, size) in made.values():
            break  # over more axes none can be better
    return made


def _within(grid: Grid, broken: int, axis: str) -> int:
    """The cells between the oldest and the newest version that was seen to fail."""
    versions = grid.versions(axis, broken)
    return grid.within(axis, versions[0], versions[-1])


def _rule(grid: Grid, said: Answers, axes: Sequence[str], checks: tuple[str, ...] = ()) -> Rule:
    broken, works = said[FailureState.FAILS], said[FailureState.WORKS]
    within = {axis: _within(grid, broken, axis) for axis in axes}
    held = functools.reduce(operator.and_, within.values())
    told = (FailureState.FAILS, FailureState.WORKS)
    return Rule(
        bounds=tuple(_bound(grid, said, axis, within) for axis in axes),
        support=grid.names(broken),
        works=works.bit_count(),
        contradicted=grid.names(held & works),
        others=grid.seen({one: held & cells for one, cells in said.items() if one not in told}),
        checks=checks,
    )


def _bound(grid: Grid, said: Answers, axis: str, within: Mapping[str, int]) -> Bound:
    """An axis' interval, with what lies beside it, all other axes being within theirs."""
    others = (cells for other, cells in within.items() if other != axis)
    rest = functools.reduce(operator.and_, others, grid.all)
    failed = grid.versions(axis, said[FailureState.FAILS])
    low, high = failed[0], failed[-1]
    there = grid.versions(axis, rest)
    below = [v for v in reversed(there) if parsed(v) < parsed(low)]
    above = [v for v in there if parsed(v) > parsed(high)]
    works = rest & said[FailureState.WORKS]
    return Bound(
        axis=axis,
        low=low,
        high=high,
        below=next((v for v in below if works & grid.at(axis, v)), None),
        above=next((v for v in above if works & grid.at(axis, v)), None),
        next_below=_nearest(grid, said, axis, below, rest),
        next_above=_nearest(grid, said, axis, above, rest),
    )


def _nearest(
    grid: Grid, said: Answers, axis: str, versions: Sequence[str], rest: int
) -> Beside | None:
    """The first of the versions that was tested, and what tells most of it. Cells that did not
    come to their checks say something only where no other does."""
    for these in ([one for one in FailureState if one not in NO_CHECKS], NO_CHECKS):
        for version in versions:
            here = rest & grid.at(axis, version)
            for one in these:
                if here & said.get(one, 0):
                    return Beside(version=version, state=one)
    return None
