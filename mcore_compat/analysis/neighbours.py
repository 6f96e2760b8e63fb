"""What was tested nearest to what somebody has: the same series first, then the next newer, then
the next older; and what is better, near to what fits. Pure."""

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
"""What it costs to move an axis, one of the others 1."""


def weight(c: Constraint) -> int:
    """What it costs to move the axis of a constraint."""
    return WEIGHT.get(c.axis, 1)


FEW = 3
"""So many are told where no single change is enough."""


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A tested cell near to what was asked for. `how` it is near: `the same series`, `the next
    newer`; `differs`: constraints that it does not fit, and what it has instead."""

    how: str
    cell: CellRecord
    differs: tuple[tuple[Constraint, str], ...]

    def text(self) -> str:
        """What would have to change."""
        changes = (
            f"{c.axis} {c.version or c.specifier} -> {version}" for c, version in self.differs
        )
        return f"{self.how}: {', '.join(changes)}" if self.differs else self.how


def neighbour(how: str, cell: CellRecord, constraints: Iterable[Constraint]) -> Neighbour:
    """A cell as a neighbour of what was asked for."""
    differs = tuple((c, c.of(cell)) for c in constraints if not c.fits(cell))
    return Neighbour(how=how, cell=cell, differs=differs)


def nearest(
    constraints: Sequence[Constraint], cells: Sequence[CellRecord], works: Works, rank: Rank
) -> tuple[Neighbour, ...]:
    """Where nothing that works fits all: what is nearest on one axis, all else being as it was
    asked for. If a version was tested with nothing, on its axis alone. Where one axis is not
    enough, the nearest on several, such a version's neighbours first."""
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
    """The nearest release of the same series, be it good or not, then the next newer and the next
    older that work, and of each the best cell. `cells`: best first."""
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
    """The best cell outside of a range."""
    best = next(filter(works, cells), None)
    if best is not None:
        yield f'without "{c.text}"', best


Distance = tuple[int, list[tuple[int, int]]]


def distance(constraints: Sequence[Constraint], cell: CellRecord) -> Distance:
    """How far a cell is from what was asked for: what the axes weigh that would move, little within
    a series, and by how many releases, the farthest first."""
    moved = [c for c in constraints if not c.fits(cell)]
    patches = [c for c in moved if c.version and _apart(c.version, c.of(cell)) == (0, 0)]
    heavy = sum(1 if c in patches else weight(c) for c in moved)
    steps = [_apart(c.version, c.of(cell)) for c in moved if c.version]
    return heavy, sorted(steps, reverse=True)


def _apart(one: str, other: str) -> tuple[int, int]:
    """How far two versions are from each other, in major and minor numbers."""
    a, b = parsed(one), parsed(other)
    return abs(a.major - b.major), abs(a.minor - b.minor)


def _ways(near: Iterable[Neighbour]) -> Iterator[Neighbour]:
    """The first few, of those that move the same the first."""
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
    """What to take instead of the `best` that fits, where that is not compatible for a profile: the
    nearest in which less of it fails, and the nearest that is compatible, if it is another one."""

    def cost(cell: CellRecord) -> tuple[bool, int]:
        compatible = cell.outcome_for(profile) == CellOutcome.COMPATIBLE
        return not compatible, len(profiles.failing(cell.by_point, profile))

    mine = cost(best)
    good = [(cell, distance(constraints, cell), cost(cell)) for cell in cells if works(cell)]
    good.sort(key=lambda row: row[1:])
    near = (cell for cell, (heavy, _), costs in good if costs < mine and heavy <= NEAR)
    whole = next((cell for cell, _, costs in good if not costs[0]), None)
    less = next(near, None)
    rows = [("the nearest in which less fails", less), ("the nearest that is compatible", whole)]
    if less is whole:
        rows = rows[1:]
    return tuple(neighbour(how, cell, constraints) for how, cell in rows if cell is not None)


NEAR = max(WEIGHT.values())
"""As far as one axis at most is near: who moves more is told of what is compatible alone."""
