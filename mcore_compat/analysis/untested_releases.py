"""Releases that were not run: the cell that would tell of them, and to which of them a known
failure extends. Pure."""

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
"""Checks that are named of one failure; the others are counted."""

MOST_TRIED = 2
"""Cells that fail beside which an untested release is put: of one failure all are alike."""


def cell_of(pins: Mapping[str, str], matrix: Matrix, releases: Releases) -> Cell | None:
    """The cell of these very releases; None where it has no name, or is known not to install."""
    cell = _named(pins, matrix, releases)
    if cell is None or combinations.violations(cell, releases):
        return None
    excluded = any(rule.covers(cell.mcore, cell.modelopt) for rule in matrix.exclusions)
    return None if excluded else cell


def refused(pins: Mapping[str, str], matrix: Matrix, releases: Releases) -> tuple[str, ...]:
    """Why these very releases cannot be installed together; empty where that is not known."""
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
    return cell if all(cell.pins[axis] == pins[axis] for axis in AXES) else None


def command(pins: Mapping[str, str], matrix: Matrix, releases: Releases) -> str:
    """What runs these releases in a minute or two, without Transformer Engine's kernels; empty if
    there is no such cell."""
    cell = cell_of(pins, matrix, releases)
    return f"nox -s {cell.name} -- --te-extension stand-in" if cell else ""


@dataclass(frozen=True, kw_only=True)
class UntestedRelease:
    """A release of a package that was not run where a failure was seen, with what is said of it
    there. `cell`: what would tell."""

    package: str
    version: str
    graded: Graded
    cell: Cell


def of_cause(
    cause: PublishedCause, grades: Grades, matrix: Matrix, releases: Releases
) -> Iterator[UntestedRelease]:
    """The releases to which a failure extends, of the packages that bear on it: each put in the
    place of another in a cell that fails so, as far as the two go together."""
    named = {*cause.cells}
    cells = [
        cell
        for cell in grades.known.cells
        if cell.name in named and cell.device_class == cause.device_class
    ]
    bearing = {bound.axis for rule in cause.bounded_rules for bound in rule.bounds}
    for package in PACKAGES:
        if package not in bearing and not grades.files_of(cause, package):
            continue
        seen = {cell.pins[package] for cell in cells}
        for release in releases.of(package):
            if release.version in seen or release.yanked:
                continue
            best = _best(cause, package, release.version, cells, grades, matrix, releases)
            if best is not None:
                yield best


def _best(
    cause: PublishedCause,
    package: str,
    version: str,
    cells: Sequence[CellRecord],
    grades: Grades,
    matrix: Matrix,
    releases: Releases,
) -> UntestedRelease | None:
    """What is said of it beside the cells that are nearest to it: the surest."""

    def apart(cell: CellRecord) -> tuple[int, int, str]:
        one, other = parsed(version), parsed(cell.pins[package])
        return abs(one.major - other.major), abs(one.minor - other.minor), cell.name

    found: list[UntestedRelease] = []
    inferable = any(grades.files_of(cause, name) for name in PACKAGES)
    tried = 0
    for beside in sorted(cells, key=apart):
        pins = {**beside.pins, package: version}
        cell = cell_of(pins, matrix, releases)
        if cell is None:
            continue
        tried += 1
        for graded in grades.of_cause(cause, pins):
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


def told(graded: Graded, mine: Collection[str] | None = None) -> Iterator[str]:
    """A failure with releases that were not run, in words: which checks (of `mine` alone, where
    those are given), how sure that is and why, and what it is."""
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
    """The very releases that are wished for, all else as in a cell; None where a version is none of
    the index."""
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
    """By grade, package and what the grade is from: the releases, and what would tell of the
    first."""
    groups: dict[tuple[Grade, str, str], list[UntestedRelease]] = {}
    for row in sorted(rows, key=lambda row: [*Grade].index(row.graded.grade)):
        why = row.graded.why if row.graded.grade is Grade.INFERRED else ""
        groups.setdefault((row.graded.grade, row.package, why), []).append(row)
    for (grade, package, why), mine in groups.items():
        versions = ", ".join(row.version for row in mine)
        from_ = f"; {why}" if why else ""
        ask = f"nox -s {mine[0].cell.name} -- --te-extension stand-in"
        yield f"{grade}, not run: {package} {versions}{from_}; to settle it: {ask}"
