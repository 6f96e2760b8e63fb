"""Two cells → the line of releases between them: a cell for each release of one axis. Pure.

All other axes are held as in the good cell. One exception: between two cells on the default stacks
of their megatron-core series, the stack moves with the series, as it does for whoever upgrades.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from packaging.version import Version

from mcore_compat.base.errors import UsageError, nearest
from mcore_compat.core import combinations
from mcore_compat.core.cells import AXES, Cell, Request, format_name, parsed, series_of
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.releases import Releases

MCORE, MODELOPT, TE, TORCH, PYTHON = AXES
STACK = (TE, TORCH, PYTHON)
"""The axes that a megatron-core series has a default of."""

WORDS = {"mcore": MCORE, "modelopt": MODELOPT, "te": TE, "py": PYTHON}
"""What axes are called in cells' names and in options."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A release of the axis as a cell; of a line of stacks or containers, `version` is its name.
    `refused`: why it cannot be installed, as the metadata
    says; empty where only a run can tell."""

    version: str
    cell: Cell
    refused: str = ""


@dataclass(frozen=True, kw_only=True)
class ReleaseLine:
    """The points, oldest first. `fixed`: the first is the bad end, the last the good one.

    `held`: version by axis of what is the same at all points; `moving`: the axes of the stack
    that move with megatron-core; `without`: releases between the ends that are no points;
    `notes`: what is not as the two cells that were named; `standing`: of which container each
    cell is the nearest.
    """

    axis: str
    points: tuple[Point, ...]
    fixed: bool
    held: Mapping[str, str]
    moving: tuple[str, ...]
    without: tuple[str, ...]
    notes: tuple[str, ...] = ()
    standing: tuple[str, ...] = ()

    @property
    def ends(self) -> tuple[int, int]:
        """The places of the good and of the bad end."""
        newest = len(self.points) - 1
        return (newest, 0) if self.fixed else (0, newest)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What lines are made of. `cell_of`: the cell of a name, on the stack of its lock."""

    matrix: Matrix
    releases: Releases
    cell_of: Callable[[str], Cell]


def axis_of(word: str) -> str:
    """The axis that a word means: `te` as well as `transformer-engine`.

    Raises:
        UsageError: none; names the nearest.
    """
    axis = WORDS.get(word, word)
    if axis not in AXES:
        raise UsageError(f'no such axis "{word}"{nearest(word, (*AXES, *WORDS))}')
    return axis


def differing(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[str, ...]:
    """The axes in which two combinations differ, in their order."""
    return tuple(axis for axis in AXES if old[axis] != new[axis])


def between(
    good: Cell,
    bad: Cell,
    facts: Facts,
    *,
    axis: str | None = None,
    hold: Collection[str] = (),
    patches: bool = False,
) -> ReleaseLine:
    """The line from one cell to another.

    `axis`: which, where they differ in several. `hold`: axes of the stack that do not move with
    megatron-core. `patches`: every patch release, not only the newest of each series.

    Raises:
        UsageError: the cells are the same, or differ in several axes and none is named, or not
            in the one that is.
    """
    other = differing(good.pins, bad.pins)
    # What differs in the stack does so only because each has its series' default.
    moves = MCORE in other and good.default and bad.default and bool({*STACK} & {*other})
    axis = axis or _only(other, moves, good, bad)
    if axis not in other:
        raise UsageError(f"{good.name} and {bad.name} have the same {axis}: {good.pins[axis]}")
    moving = tuple(a for a in STACK if axis == MCORE and moves and a not in hold)
    held = {a: v for a, v in good.pins.items() if a not in (axis, *moving)}
    old, new = sorted((good.pins[axis], bad.pins[axis]), key=parsed)
    known = _releases(axis, old, new, facts)
    chosen = known if patches or series_of(old) == series_of(new) else _newest(known, new)
    chosen = [v for v in chosen if axis != MCORE or series_of(v) in facts.matrix.stacks]
    cells = {v: cell_with({**held, axis: v}, moving, facts) for v in (old, *chosen, new)}
    points = [
        Point(version=version, cell=cell, refused=refusal(cell, facts))
        for version, cell in cells.items()
    ]
    return ReleaseLine(
        axis=axis,
        points=tuple(points),
        fixed=old != good.pins[axis],
        held=held,
        moving=moving,
        without=tuple(v for v in known if v not in chosen),
        notes=_notes(bad, axis, points),
    )


def _only(other: Sequence[str], moves: bool, good: Cell, bad: Cell) -> str:
    """The one axis in which two cells differ, apart from stacks that move with megatron-core."""
    if not other:
        raise UsageError(f"{good.name} and {bad.name} are the same combination")
    chosen = [axis for axis in other if not (moves and axis in STACK)]
    if len(chosen) > 1:
        raise UsageError(
            f"{good.name} and {bad.name} differ in {', '.join(chosen)}: name one with --axis, "
            "the others are then held as in --good"
        )
    return chosen[0]


def _releases(axis: str, old: str, new: str, facts: Facts) -> list[str]:
    """The releases strictly between two, oldest first; none that was withdrawn."""
    if axis == PYTHON:
        first, last = (parsed(version).minor for version in (old, new))
        return [f"{parsed(old).major}.{minor}" for minor in range(first + 1, last)]
    return [
        release.version
        for release in facts.releases.of(axis)
        if not release.yanked
        and not parsed(release.version).is_prerelease
        and parsed(old) < parsed(release.version) < parsed(new)
    ]


def _newest(known: Sequence[str], new: str) -> list[str]:
    """The newest of each series, but of the one that the newer end stands for."""
    by_series = {series_of(version): version for version in known}
    return [version for series, version in by_series.items() if series != series_of(new)]


def cell_with(pins: Mapping[str, str], moving: Collection[str], facts: Facts) -> Cell:
    """The cell of these pins; what moves is as the series' stack has it.

    A pair's default cell is taken where it is this combination: its lock, not this machine,
    says which stack it has.
    """
    words = {axis: _word(axis, version, facts.releases) for axis, version in pins.items()}
    pair = Request(mcore=words[MCORE], modelopt=words[MODELOPT])
    default = facts.cell_of(format_name(pair))
    if all(default.pins[axis] == version for axis, version in pins.items()):
        return default
    rest = [None if axis in moving else words.get(axis) for axis in STACK]
    asked = Request(
        mcore=pair.mcore, modelopt=pair.modelopt, te=rest[0], torch=rest[1], python=rest[2]
    )
    return facts.cell_of(format_name(asked))


def by_series(asked: Request, releases: Releases) -> Request:
    """The same combination, spelt as cells' names are.

    Raises:
        UsageError: a series or release that does not exist; names the nearest.
    """

    def word(axis: str, version: str) -> str:
        return _word(axis, releases.newest(axis, version).version, releases)

    return replace(
        asked,
        mcore=word(MCORE, asked.mcore),
        modelopt=word(MODELOPT, asked.modelopt),
        te=word(TE, asked.te) if asked.te else None,
        torch=word(TORCH, asked.torch) if asked.torch else None,
    )


def _word(axis: str, version: str, releases: Releases) -> str:
    """How a cell's name spells a version: a series' newest release by its series."""
    if axis == PYTHON:
        return version
    series = series_of(version)
    return series if releases.newest(axis, series).version == version else version


def refusal(cell: Cell, facts: Facts) -> str:
    """Why metadata says that a cell cannot be installed; empty where it does not."""
    return "; ".join(_refusals(cell, facts))


def _refusals(cell: Cell, facts: Facts) -> Iterator[str]:
    for rule in facts.matrix.exclusions:
        if rule.covers(cell.mcore, cell.modelopt):
            yield f"excluded: {rule.reason}"
    yield from combinations.violations(cell, facts.releases)


def _notes(bad: Cell, axis: str, points: Sequence[Point]) -> tuple[str, ...]:
    """What the bad end is instead of the cell that was named; the good one is always itself."""
    if any(point.cell.pins == bad.pins for point in points):
        return ()
    (end,) = (p.cell for p in (points[0], points[-1]) if bad.pins[axis] == p.version)
    return unlike(bad, end)


def unlike(bad: Cell, end: Cell) -> tuple[str, ...]:
    """That another cell is in the place of the bad one, where that is so."""
    if bad.pins == end.pins:
        return ()
    return (f"in the place of --bad {bad.name}: {end.name}, as --good in all else",)


def stacks(line: ReleaseLine, low: int, high: int) -> dict[str, tuple[str, str]]:
    """What else changes between two points: by axis, the two versions."""
    old, new = (line.points[place].cell.pins for place in (low, high))
    return {axis: (old[axis], new[axis]) for axis in differing(old, new) if axis != line.axis}


def skipped(line: ReleaseLine, start: int, end: int) -> tuple[str, ...]:
    """The releases between two points that no point stands for."""
    if not line.without:
        return ()  # points of other lines are no versions
    low, high = (Version(line.points[place].version) for place in (start, end))
    return tuple(v for v in line.without if low < Version(v) < high)
