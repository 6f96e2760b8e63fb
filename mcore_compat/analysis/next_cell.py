"""The untested cell that would best narrow down a failure. Pure.

It proposes only cells that declared requirements allow, because a cell that does not resolve shows
nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

from mcore_compat.analysis import declarations
from mcore_compat.analysis.declarations import Relation
from mcore_compat.analysis.rules import CellSighting, Rule, rivals
from mcore_compat.base.errors import UsageError
from mcore_compat.core import combinations
from mcore_compat.core.cells import AXES, Cell, Request, parsed, series_of
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.releases import Releases
from mcore_compat.results.result import Result

MOST_TRIED = 30
"""The number of failing cells whose untested neighbours are tried; more would not help, because all
cells of one failure are alike."""


class UntestedCells:
    """All combinations of the declared axes that have no result."""

    def __init__(self, results: Iterable[Result], matrix: Matrix, releases: Releases) -> None:
        self._tested = {e.cell for e in results}
        self._matrix, self._releases = matrix, releases
        by_axis = matrix.mcore_series, matrix.modelopt_series, matrix.te_series, matrix.torch_series
        self._versions = {
            axis: [version for s in series if (version := _newest(axis, s, releases))]
            for axis, series in zip(AXES, by_axis, strict=False)
        }
        self._binding = functools.cache(self._binding_of)
        self.beside = functools.cache(self._beside)

    def _beside(self, axis: str, version: str) -> tuple[str, ...]:
        """Return the other versions of an axis, the nearest first."""
        versions = self._versions.get(axis, [])
        older = [v for v in reversed(versions) if parsed(v) < parsed(version)]
        newer = [v for v in versions if parsed(v) > parsed(version)]
        places = {v: place for side in (older, newer) for place, v in enumerate(side)}
        return tuple(sorted(places, key=places.__getitem__))

    def named(self, pins: Mapping[str, str]) -> str | None:
        """Return the name of the cell of these pins; None if it was tested or cannot be
        installed."""
        mcore, modelopt, te, torch = (series_of(pins[axis]) for axis in AXES[:-1])
        request = Request(mcore=mcore, modelopt=modelopt, te=te, torch=torch, python=pins["python"])
        try:
            cell = combinations.cell(request, self._matrix, self._releases)
        except UsageError:
            return None  # the result may be of a release or series that is no longer declared
        tested = cell.name in self._tested or cell.pins != pins
        return None if tested or not self._possible(cell) else cell.name

    def _possible(self, cell: Cell) -> bool:
        if any(rule.covers(cell.mcore, cell.modelopt) for rule in self._matrix.exclusions):
            return False
        refused = any(
            not relation.admits(cell.pins[relation.on])
            for package in declarations.DECLARING
            for relation in self._binding(package, cell.pins[package])
        )
        return not refused and not combinations.violations(cell, self._releases)

    def _binding_of(self, package: str, version: str) -> tuple[Relation, ...]:
        """Return what a release requires of other axes, without its extras."""
        relations = declarations.relations(package, version, self._releases)
        return tuple(relation for relation in relations if not relation.extra)


def _newest(axis: str, series: str, releases: Releases) -> str | None:
    """Return the newest release of a series; None if none is known or all are yanked."""
    try:
        return releases.newest(axis, series).version
    except UsageError:
        return None


WhetherAsked = Callable[[str, str], bool | None]
"""`rules.CellGrid.asked` for an axis and a version."""


def next_cell(
    rules: Sequence[Rule],
    broken: Sequence[CellSighting],
    asked: WhetherAsked,
    untested: UntestedCells,
) -> str | None:
    """Return the untested cell that would narrow the failure down most; newest releases first. It
    differs from a failing cell in one axis, so that this one version makes the difference.

    If several rules fit: a cell that some of them hold and others do not. If one rule fits: a cell
    between a version that fails and the nearest one that works, close to the middle.
    """
    for fit in rivals(rules):
        if len(fit) == 1 and not any(bound.gaps() for bound in fit[0].bounds):
            continue
        support = set(fit[0].support)
        cells = [cell for cell in broken if cell.cell in support]
        cells.sort(key=lambda cell: [parsed(cell.pins[axis]) for axis in AXES], reverse=True)
        for cell in cells[:MOST_TRIED]:
            moves = _dividing(fit, cell.pins, asked, untested)
            for axis, version in moves or _between(fit[0], cell.pins, untested):
                pins = {**cell.pins, axis: version}
                name = untested.named(pins) if asked(axis, version) is not False else None
                if name:
                    return name
    return None


def _dividing(
    fit: Sequence[Rule], pins: Mapping[str, str], asked: WhetherAsked, untested: UntestedCells
) -> list[tuple[str, str]]:
    """Return changes of one axis to a version that some of the rules hold and some do not; first
    those that half of the rules hold, then those with a version that was tested before."""
    half = len(fit) / 2
    ranks: list[tuple[float, bool, int, tuple[str, str]]] = []
    for axis in AXES:
        for version in untested.beside(axis, pins[axis]):
            # The other axes are as in a failing cell, so every rule holds them.
            holding = sum([rule.admits(axis, version) for rule in fit])
            if 0 < holding < len(fit):
                new = asked(axis, version) is None
                ranks.append((abs(holding - half), new, len(ranks), (axis, version)))
    return [move for *_, move in sorted(ranks)]


def _between(rule: Rule, pins: Mapping[str, str], untested: UntestedCells) -> list[tuple[str, str]]:
    """Return changes of one axis to versions between one that fails and one that works, the middle
    first."""
    moves = []
    for bound in rule.bounds:
        for low, high in bound.gaps():
            beside = untested.beside(bound.axis, pins[bound.axis])
            versions = sorted(
                (v for v in beside if parsed(low) < parsed(v) < parsed(high)), key=parsed
            )
            middle = len(versions) // 2
            order = sorted(range(len(versions)), key=lambda place: abs(place - middle))
            moves += [(bound.axis, versions[place]) for place in order]
    return moves
