"""The tested cells nearest to what somebody has: the same series first, then the next newer, then
the next older; and better cells near to the one that fits. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from packaging.version import Version

from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.analysis.constraints import Constraint
from mcore_compat.core import profiles
from mcore_compat.core.cells import AXES, parsed, series_of
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.core.profiles import Profile

Works = Callable[[CellRecord], bool]
"""Whether a cell can be recommended at all."""

Rank = Callable[[CellRecord], tuple[object, ...]]
"""A sort key of cells, the best first."""

WEIGHT = {AXES[0]: 4, AXES[1]: 4, AXES[2]: 2, AXES[3]: 2}
"""The cost of a change of an axis; 1 for the axes that are not here."""


def weight(c: Constraint) -> int:
    """Return the cost of a change of the constraint's axis."""
    return WEIGHT.get(c.axis, 1)


FEW = 3
"""The number of cells to report if no single change is enough."""


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A tested cell near to the constraints. `how`: in what way (`the same series`, `the next
    newer`); `differs`: the constraints that it does not fit, with its version instead."""

    how: str
    cell: CellRecord
    differs: tuple[tuple[Constraint, str], ...]

    def text(self) -> str:
        """Return what must change, in words."""
        changes = (
            f"{c.axis} {c.version or c.specifier} -> {version}" for c, version in self.differs
        )
        return f"{self.how}: {', '.join(changes)}" if self.differs else self.how


def neighbour(how: str, cell: CellRecord, constraints: Iterable[Constraint]) -> Neighbour:
    """Return a cell as a neighbour, with the constraints that it does not fit."""
    differs = tuple((c, c.of(cell)) for c in constraints if not c.fits(cell))
    return Neighbour(how=how, cell=cell, differs=differs)


def nearest(
    constraints: Sequence[Constraint], cells: Sequence[CellRecord], works: Works, rank: Rank
) -> tuple[Neighbour, ...]:
    """Return the nearest cells if no working cell fits all constraints.

    They differ from the constraints on one axis: one whose version no cell has, else any. If a
    change of one axis is not enough, the nearest cells on several axes follow; neighbours of an
    untested version come first.
    """
    tested = sorted((cell for cell in cells if cell.checks), key=rank)
    unknown = [c for c in constraints if not any(map(c.fits, tested))]
    found: list[Neighbour] = []
    for c in unknown or constraints:
        others = [other for other in constraints if other is not c]
        there = [cell for cell in tested if all(other.fits(cell) for other in others)]
        steps = _steps(c, there, works) if c.version else _any(c, there, works)
        found += [neighbour(how, cell, constraints) for how, cell in steps]
    if not found:
        good = sorted(filter(works, tested), key=lambda cell: distance(constraints, cell))
        known = [c for c in constraints if c not in unknown]
        kept = [cell for cell in good if all(c.fits(cell) for c in known)] or good
        first = max((c for c in unknown if c.version), key=weight, default=None)
        if first:
            steps = _steps(first, kept, works)
            found = [neighbour(f"{how} {first.axis}", cell, constraints) for how, cell in steps]
        found = found or [*_ways(neighbour("nearest", cell, constraints) for cell in kept)]
    return tuple(found)


def _steps(
    c: Constraint, cells: Sequence[CellRecord], works: Works
) -> Iterator[tuple[str, CellRecord]]:
    """Yield the best cell of the nearest release in the same series (even if it does not work), of
    the next newer release that works, and of the next older one. `cells`: best first."""
    wanted = Version(c.version)
    exact = len(wanted.release) > 2
    series = series_of(c.version)

    def at(cell: CellRecord) -> Version:
        return parsed(c.of(cell))

    same = [cell for cell in cells if exact and series_of(c.of(cell)) == series]
    same = [cell for cell in same if at(cell) != wanted]
    other = [cell for cell in cells if series_of(c.of(cell)) != series and works(cell)]
    newer = [cell for cell in other if at(cell) > wanted]
    older = [cell for cell in other if at(cell) < wanted]
    if same:
        yield "the same series", min(same, key=lambda cell: abs(at(cell).micro - wanted.micro))
    if newer:
        yield "the next newer", min(newer, key=at)
    if older:
        yield "the next older", max(older, key=at)


def _any(
    c: Constraint, cells: Sequence[CellRecord], works: Works
) -> Iterator[tuple[str, CellRecord]]:
    """Yield the best cell outside of a range."""
    best = next(filter(works, cells), None)
    if best is not None:
        yield f'without "{c.text}"', best


Distance = tuple[int, list[tuple[int, int]]]


def distance(constraints: Sequence[Constraint], cell: CellRecord) -> Distance:
    """Return how far a cell is from the constraints: the sum of the costs of the axes that change
    (1 within a series), and the steps in major and minor numbers, the largest first."""
    moved = [c for c in constraints if not c.fits(cell)]
    patches = [c for c in moved if c.version and _apart(c.version, c.of(cell)) == (0, 0)]
    heavy = sum(1 if c in patches else weight(c) for c in moved)
    steps = [_apart(c.version, c.of(cell)) for c in moved if c.version]
    return heavy, sorted(steps, reverse=True)


def _apart(one: str, other: str) -> tuple[int, int]:
    """Return the difference of two versions in major and minor numbers."""
    a, b = parsed(one), parsed(other)
    return abs(a.major - b.major), abs(a.minor - b.minor)


def _ways(near: Iterable[Neighbour]) -> Iterator[Neighbour]:
    """Yield the first few neighbours, one for each set of changes."""
    seen: dict[str, Neighbour] = {}
    for one in near:
        seen.setdefault(one.text(), one)
        if len(seen) == FEW:
            break
    yield from seen.values()


def better(
    best: CellRecord,
    constraints: Sequence[Constraint],
    cells: Sequence[CellRecord],
    works: Works,
    profile: Profile,
) -> tuple[Neighbour, ...]:
    """Return what to take instead of the `best` cell that fits, if that is not compatible for a
    profile: the nearest cell in which less of the profile fails, and the nearest compatible one, if
    it is another. Both have every family that the best has."""

    def cost(cell: CellRecord) -> tuple[bool, int]:
        compatible = cell.outcome_for(profile) == CellOutcome.COMPATIBLE
        return not compatible, len(profiles.failing(cell.by_point, profile))

    mine, families = cost(best), profiles.families(best.by_point, profile)
    good = [
        (cell, distance(constraints, cell), cost(cell))
        for cell in cells
        if works(cell) and families <= profiles.families(cell.by_point, profile)
    ]
    good.sort(key=lambda row: row[1:])
    near = (cell for cell, (heavy, _), costs in good if costs < mine and heavy <= NEAR)
    whole = next((cell for cell, _, costs in good if not costs[0]), None)
    less = next(near, None)
    rows = [("the nearest in which less fails", less), ("the nearest that is compatible", whole)]
    if less is whole:
        rows = rows[1:]
    return tuple(neighbour(how, cell, constraints) for how, cell in rows if cell is not None)


NEAR = max(WEIGHT.values())
"""The largest cost that is still near: one axis. Beyond it only compatible cells are reported."""
