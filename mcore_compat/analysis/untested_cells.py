"""Stages matrix and evidence → the untested cells that may be proposed. Pure.

As far as is declared, they can be installed and built: one that does not even resolve would tell
nothing of a failure.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

from mcore_compat.analysis import declarations
from mcore_compat.analysis.declarations import Relation
from mcore_compat.base.errors import UsageError
from mcore_compat.core import combinations
from mcore_compat.core.cells import AXES, Cell, Request, parsed, series_of
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.releases import Releases
from mcore_compat.results.evidence import Evidence


class UntestedCells:
    """All combinations of the declared axes but those of which there is evidence."""

    def __init__(self, found: Iterable[Evidence], matrix: Matrix, releases: Releases) -> None:
        self._tested = {e.cell for e in found}
        self._matrix, self._releases = matrix, releases
        series = matrix.mcore_series, matrix.modelopt_series, matrix.te_series, matrix.torch_series
        self._versions = {
            axis: [v for s in mine if (v := _newest(axis, s, releases))]
            for axis, mine in zip(AXES, series, strict=False)
        }
        toolkit = (s.te for stacks in matrix.stacks.values() for s in stacks if s.toolkit)
        self._needs_nvcc = max(map(parsed, toolkit), default=None)
        self._binding = functools.cache(self._binding_of)
        self.beside = functools.cache(self._beside)

    def _beside(self, axis: str, version: str) -> tuple[str, ...]:
        """The other versions of an axis, the nearest first."""
        versions = self._versions.get(axis, [])
        older = [v for v in reversed(versions) if parsed(v) < parsed(version)]
        newer = [v for v in versions if parsed(v) > parsed(version)]
        places = {v: place for side in (older, newer) for place, v in enumerate(side)}
        return tuple(sorted(places, key=places.__getitem__))

    def named(self, pins: Mapping[str, str]) -> str | None:
        """The cell of these pins; None where it was tested or cannot be proposed."""
        if series_of(pins["megatron-core"]) not in self._matrix.stacks:
            return None
        words = [series_of(pins[axis]) for axis in AXES[:-1]]
        request = Request(
            mcore=words[0], modelopt=words[1], te=words[2], torch=words[3], python=pins["python"]
        )
        try:
            cell = combinations.cell(request, self._matrix, self._releases)
        except UsageError:
            return None  # evidence may be of a release that the facts do not have any more
        tested = cell.name in self._tested or cell.pins != pins
        return None if tested or not self._possible(cell) else cell.name

    def _possible(self, cell: Cell) -> bool:
        if self._needs_nvcc is not None and parsed(cell.te) <= self._needs_nvcc:
            return False  # as for all older ones, an nvcc is needed, which not every machine has
        if any(rule.covers(cell.mcore, cell.modelopt) for rule in self._matrix.exclusions):
            return False
        pins = cell.pins
        refused = any(
            not relation.admits(pins[relation.on])
            for package in declarations.DECLARING
            for relation in self._binding(package, pins[package])
        )
        return not refused and not combinations.violations(cell, self._releases)

    def _binding_of(self, package: str, version: str) -> tuple[Relation, ...]:
        """What a release requires of other axes, whatever is asked for."""
        return tuple(
            r for r in declarations.relations(package, version, self._releases) if not r.extra
        )


def _newest(axis: str, series: str, releases: Releases) -> str | None:
    """The newest release of a series; None where none is known."""
    if not any(series_of(r.version) == series for r in releases.of(axis)):
        return None
    try:
        return releases.newest(axis, series).version
    except UsageError:
        return None  # all of them are yanked
