"""Better cells than a given one: those that are better for a profile and differ little. Pure."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from mcore_compat.core import profiles
from mcore_compat.core.cells import AXES, parsed, series_of
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.core.profiles import ALL, DEFAULT, Profile
from mcore_compat.results.answer import failing_points, outcome
from mcore_compat.results.result import Result

_PAIR = AXES[:2]
"""megatron-core and ModelOpt: a better cell keeps one of them if possible."""

_RANK = {CellOutcome.COMPATIBLE: 0, CellOutcome.PARTIAL: 1}


@dataclass(frozen=True, kw_only=True)
class BetterCell:
    """A cell that is better for a profile: its outcome, how many points of the profile fail there
    and `here` (None: unknown), and how the two differ."""

    cell: str
    outcome: CellOutcome
    fails: int
    here: int | None
    differs: tuple[tuple[str, str, str], ...]
    """Axis, the version here, the version there."""

    def ending(self) -> str:
        """`partial, 2 fail there and 7 here`."""
        if not self.fails:
            return self.outcome.value
        here = f" and {self.here} here" if self.here is not None else ""
        return f"{self.outcome.value}, {self.fails} fail there{here}"

    def text(self) -> str:
        """The command, the cell's outcome, and the changed pins."""
        changes = ", ".join(f"{axis} {old} -> {new}" for axis, old, new in self.differs)
        return f"nox -s {self.cell} ({self.ending()}): {changes}"


class _Cost(NamedTuple):
    """How bad a cell is for a profile."""

    rank: int
    fails: int


_WORST = _Cost(len(_RANK) + 1, 0)


class BetterCells:
    """Finds better cells among results of main suites of one device class. With thousands of cells,
    each is compared only with the candidates, not with all."""

    def __init__(self, results: Iterable[Result], profile: Profile = DEFAULT) -> None:
        self._results = {e.cell: e for e in results if e.checks}
        self._places = {name: _place(e.pins) for name, e in self._results.items()}
        self._families = {
            name: profiles.families(e.points, profile) for name, e in self._results.items()
        }
        self._endings = {name: outcome(e, profile) for name, e in self._results.items()}
        self._costs = {
            name: _Cost(_RANK.get(self._endings[name], len(_RANK)), failing_points(e, profile))
            for name, e in self._results.items()
        }
        self._failing: dict[str, int] = {}
        self._cheapest: dict[tuple[str, str], list[str]] = {}
        for name in sorted(self._results, key=lambda name: self._costs[name]):
            for axis in _PAIR:
                there = self._cheapest.setdefault(self._key(name, axis), [])
                if not there or self._costs[name] == self._costs[there[0]]:
                    there.append(name)
        self._good: dict[tuple[str, ...], dict[tuple[str, ...], list[str]]] = {}

    def _key(self, name: str, axis: str) -> tuple[str, str]:
        return axis, series_of(self._results[name].pins[axis])

    def of(self, cell: str, pins: Mapping[str, str]) -> tuple[BetterCell, ...]:
        """Better cells than one with these `pins`, which need not have a result; empty if there is
        none.

        First the best with this series of megatron-core, else, if its verdict is better, the best
        with this series of ModelOpt: one failure less is no reason to change megatron-core. If that
        one is not compatible, the nearest compatible one is second: it may have another
        megatron-core and stack, see `differs`.
        """
        mine = self._costs.get(cell, _WORST)
        chosen: list[str] = []
        for axis in _PAIR:
            cheapest = self._cheapest.get((axis, series_of(pins[axis])), ())
            better = [name for name in cheapest if self._costs[name] < mine]
            if axis != _PAIR[0]:
                better = [name for name in better if self._costs[name].rank < mine.rank]
                better = self._with_families_of(cell, better)
            if better:
                chosen = [self._nearest(pins, better, self._beyond)]
                break
        if mine.rank and not any(self._costs[name].rank == 0 for name in chosen):
            chosen += self._nearest_good(cell, pins)
        return tuple(self._better(cell, pins, name) for name in chosen)

    def _nearest(
        self,
        pins: Mapping[str, str],
        names: Iterable[str],
        beyond: Callable[[str], int] = lambda _: 0,
    ) -> str:
        """The nearest of some. Of those that are as many axes away, `beyond` decides first."""
        here = _place(pins)
        by_moved: dict[int, list[str]] = {}
        for name in names:
            moved = sum(map(operator.ne, here[0], self._places[name][0]))
            by_moved.setdefault(moved, []).append(name)

        def cost(name: str) -> tuple[int, int, int, str]:
            mcore, modelopt = map(_apart, here[1], self._places[name][1])
            return beyond(name), mcore, modelopt, name

        return min(by_moved[min(by_moved)], key=cost)

    def _beyond(self, name: str) -> int:
        """How much fails of everything. It tells apart what is alike for the profile, so that the
        answer is the one that the headline frames."""
        if name not in self._failing:
            self._failing[name] = failing_points(self._results[name], ALL)
        return self._failing[name]

    def _with_families_of(self, cell: str, names: Iterable[str]) -> list[str]:
        """Those that have every family of the profile that a cell has: an old release with one
        family is not better for a user of four."""
        mine = self._families.get(cell, frozenset())
        return [name for name in names if mine <= self._families[name]]

    def _nearest_good(self, cell: str, pins: Mapping[str, str]) -> list[str]:
        """The compatible cell with the most axes in common, and of those the nearest."""
        here = dict(zip(AXES, _series(pins), strict=True))
        for size in range(len(AXES), -1, -1):
            near = [
                name
                for axes in itertools.combinations(AXES, size)
                for name in self._sharing(axes).get(tuple(here[axis] for axis in axes), ())
            ]
            if near := self._with_families_of(cell, near):
                return [self._nearest(pins, near)]
        return []

    def _sharing(self, axes: tuple[str, ...]) -> Mapping[tuple[str, ...], list[str]]:
        """The compatible cells by their series on some axes."""
        if axes not in self._good:
            index = self._good[axes] = {}
            for name, cost in self._costs.items():
                if cost.rank == 0:
                    index.setdefault(_series(self._results[name].pins, axes), []).append(name)
        return self._good[axes]

    def _better(self, cell: str, pins: Mapping[str, str], name: str) -> BetterCell:
        other = self._results[name].pins
        return BetterCell(
            cell=name,
            outcome=self._endings[name],
            fails=self._costs[name].fails,
            here=self._costs[cell].fails if cell in self._costs else None,
            differs=tuple((a, pins[a], other[a]) for a in AXES if pins[a] != other[a]),
        )


def _series(pins: Mapping[str, str], axes: Iterable[str] = AXES) -> tuple[str, ...]:
    return tuple(series_of(pins[axis]) for axis in axes)


_Place = tuple[tuple[str, ...], tuple[int, ...]]


def _place(pins: Mapping[str, str]) -> _Place:
    """What the distance of two cells depends on: their series, and the releases of megatron-core
    and of ModelOpt as numbers."""
    return _series(pins), tuple(_number(pins[axis]) for axis in _PAIR)


def _apart(one: int, other: int) -> int:
    return abs(one - other)


def _number(version: str) -> int:
    """A version as one number, for distances."""
    there = parsed(version)
    return (there.major * 1000 + there.minor) * 100 + there.micro
