"""Untested releases: the cell that would test them, and the known failures that extend to them.
Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.analysis.constraints import Constraint
from mcore_compat.analysis.grades import PACKAGES, Grade, Graded, Grades
from mcore_compat.analysis.published import PublishedCause
from mcore_compat.analysis.recommend import CORE
from mcore_compat.base.errors import MatrixError, UsageError
from mcore_compat.core import combinations
from mcore_compat.core.cells import AXES, Cell, Request, parsed, series_of
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.releases import Releases

SHOWN = 3
"""The number of checks of a failure that a line names; it counts the others."""

MOST_TRIED = 2
"""The number of failing cells in which a release is replaced by an untested one; more would not
help, because all cells of one failure are alike."""


def cell_of(pins: Mapping[str, str], matrix: Matrix, releases: Releases) -> Cell | None:
    """Return the cell of exactly these releases; None if it has no name or cannot be installed."""
    cell = _named(pins, matrix, releases)
    if cell is None or combinations.violations(cell, releases):
        return None
    excluded = any(rule.covers(cell.mcore, cell.modelopt) for rule in matrix.exclusions)
    return None if excluded else cell


def refused(pins: Mapping[str, str], matrix: Matrix, releases: Releases) -> tuple[str, ...]:
    """Return why exactly these releases cannot be installed together; empty if that is unknown."""
    cell = _named(pins, matrix, releases)
    return combinations.violations(cell, releases) if cell else ()


def _named(pins: Mapping[str, str], matrix: Matrix, releases: Releases) -> Cell | None:
    def word(axis: str) -> str:
        series = series_of(pins[axis])
        newest = releases.meant(axis, series)
        return series if newest and newest.version == pins[axis] else pins[axis]

    try:
        mcore, modelopt, te, torch = map(word, PACKAGES)
        request = Request(mcore=mcore, modelopt=modelopt, te=te, torch=torch, python=pins["python"])
        cell = combinations.cell(request, matrix, releases)
    except (UsageError, MatrixError, KeyError):
        return None
    made = cell.pins
    return cell if all(made[axis] == pins[axis] for axis in AXES) else None


def command(pins: Mapping[str, str], matrix: Matrix, releases: Releases) -> str:
    """Return the command that tests these releases in a minute or two, without Transformer Engine's
    kernels; empty if there is no such cell."""
    cell = cell_of(pins, matrix, releases)
    return f"nox -s {cell.name} -- --te-extension stand-in" if cell else ""


@dataclass(frozen=True, kw_only=True)
class UntestedRelease:
    """An untested release of a package, with the grade of a failure there. `cell`: the cell that
    would test it."""

    package: str
    version: str
    graded: Graded
    cell: Cell


class UntestedReleases:
    """The releases to which a failure extends; keeps the cells that it made."""

    def __init__(self, grades: Grades, matrix: Matrix, releases: Releases) -> None:
        self._grades, self._matrix, self._releases = grades, matrix, releases
        self._cells: dict[tuple[str, ...], Cell | None] = {}

    def of_cause(self, cause: PublishedCause) -> Iterator[UntestedRelease]:
        """Yield the untested releases to which a failure extends, for the packages that it
        concerns: each replaces another release in a failing cell, if the result can be
        installed."""
        named = {*cause.cells}
        cells = [
            cell
            for cell in self._grades.known.cells
            if cell.name in named and cell.device_class == cause.device_class
        ]
        bearing = {bound.axis for rule in cause.bounded_rules for bound in rule.bounds}
        for package in PACKAGES:
            if package not in bearing and not self._grades.files_of(cause, package):
                continue
            seen: dict[str, list[CellRecord]] = {}
            for cell in cells:
                seen.setdefault(cell.pins[package], []).append(cell)
            for release in self._releases.of(package):
                if release.version in seen or release.yanked:
                    continue
                best = self._best(cause, package, release.version, seen)
                if best is not None:
                    yield best

    def _best(
        self,
        cause: PublishedCause,
        package: str,
        version: str,
        failing: Mapping[str, Sequence[CellRecord]],
    ) -> UntestedRelease | None:
        """Return the surest grade of a release, in the failing cells nearest to it; `failing`: the
        failing cells by their release of the package."""
        found: list[UntestedRelease] = []
        inferable = any(self._grades.files_of(cause, name) for name in PACKAGES)
        tried = 0
        for beside in _nearest_first(version, failing):
            pins = {**beside.pins, package: version}
            cell = self._cell(pins)
            if cell is None:
                continue
            tried += 1
            for graded in self._grades.of_cause(cause, pins):
                if graded.grade is not Grade.TESTED:
                    found.append(
                        UntestedRelease(package=package, version=version, graded=graded, cell=cell)
                    )
            if tried == MOST_TRIED or any(u.graded.grade is Grade.INFERRED for u in found):
                break
            if found and not inferable:
                break
        order = [*Grade]
        return min(found, key=lambda u: order.index(u.graded.grade), default=None)

    def _cell(self, pins: Mapping[str, str]) -> Cell | None:
        at = tuple(pins[axis] for axis in AXES)
        if at not in self._cells:
            self._cells[at] = cell_of(pins, self._matrix, self._releases)
        return self._cells[at]


def _nearest_first(
    version: str, failing: Mapping[str, Sequence[CellRecord]]
) -> Iterator[CellRecord]:
    """Yield cells, given by their release of a package, in the order of its distance from a
    version, and of their names. Only those that are used are sorted."""
    by_distance: dict[tuple[int, int], list[CellRecord]] = {}
    for there, cells in failing.items():
        one, other = parsed(version), parsed(there)
        apart = abs(one.major - other.major), abs(one.minor - other.minor)
        by_distance.setdefault(apart, []).extend(cells)
    for apart in sorted(by_distance):
        yield from sorted(by_distance[apart], key=lambda cell: cell.name)


def told(graded: Graded, mine: Collection[str] | None = None) -> Iterator[str]:
    """Yield lines about a failure with untested releases: the checks (only those in `mine`, if
    given), how sure it is and why, and the cause."""
    checks = sorted(
        (check for check in graded.checks if mine is None or check in mine),
        key=lambda check: (not check.startswith(CORE), check),
    )
    if checks:
        more = f" and {len(checks) - SHOWN} more" if len(checks) > SHOWN else ""
        first = graded.cause.message.partition("\n")[0][:120]
        verb = "fail" if len(checks) > 1 else "fails"
        yield f"{graded.grade}, not run: {', '.join(checks[:SHOWN])}{more} {verb}; {graded.why}"
        yield f"  {graded.cause.type}: {first} (cause {graded.cause.fingerprint})"
        yield f"  as in {graded.checks[checks[0]].name}"


def wished(
    constraints: Iterable[Constraint], near: CellRecord, releases: Releases
) -> dict[str, str] | None:
    """Return a cell's pins with exactly the requested releases; None if one is not on the index."""
    pins = dict(near.pins)
    for c in constraints:
        if c.version and c.axis in PACKAGES:
            meant = releases.meant(c.axis, c.version)
            if meant is None:
                return None
            pins[c.axis] = meant.version
        elif c.version and c.axis in AXES:
            pins[c.axis] = c.version
    return pins


def lines(rows: Sequence[UntestedRelease]) -> Iterator[str]:
    """Yield a line for each grade, package and reason: the releases, and the command that tests the
    first."""
    groups: dict[tuple[Grade, str, str], list[UntestedRelease]] = {}
    for row in sorted(rows, key=lambda row: [*Grade].index(row.graded.grade)):
        why = row.graded.why if row.graded.grade is Grade.INFERRED else ""
        groups.setdefault((row.graded.grade, row.package, why), []).append(row)
    for (grade, package, why), mine in groups.items():
        versions = ", ".join(row.version for row in mine)
        from_ = f"; {why}" if why else ""
        ask = f"nox -s {mine[0].cell.name} -- --te-extension stand-in"
        yield f"{grade}, not run: {package} {versions}{from_}; test it: {ask}"
