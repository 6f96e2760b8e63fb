"""Two cells → the line of releases between them: a cell for each release of one axis. Pure.

All other axes stay as in the good cell. One exception: between two cells on default stacks, the
stack changes with the megatron-core series, as in an upgrade.
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
"""The axes of which a megatron-core series has a default."""

WORDS = {"mcore": MCORE, "modelopt": MODELOPT, "te": TE, "py": PYTHON}
"""The names of axes in cells' names and in options."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A release of the axis as a cell; on a line of stacks or containers, `version` is its name.
    `refused`: why metadata says that it cannot be installed; empty if only a run can show it."""

    version: str
    cell: Cell
    refused: str = ""


@dataclass(frozen=True, kw_only=True)
class ReleaseLine:
    """The points, oldest first. `fixed`: the first is the bad end, the last the good one.

    `held`: version by axis that is the same at all points; `moving`: the axes of the stack that
    change with megatron-core; `without`: releases between the ends without a point; `notes`:
    differences from the two given cells; `standing`: lines on the cell that is nearest to each
    container.
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
        """The places of the good end and of the bad end."""
        newest = len(self.points) - 1
        return (newest, 0) if self.fixed else (0, newest)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts that lines are made from. `cell_of`: returns the cell of a name, on its lock's
    stack."""

    matrix: Matrix
    releases: Releases
    cell_of: Callable[[str], Cell]


def axis_of(word: str) -> str:
    """Return the axis of a word such as `te` or `transformer-engine`.

    Raises:
        UsageError: no such axis; names the nearest.
    """
    axis = WORDS.get(word, word)
    if axis not in AXES:
        raise UsageError(f'no such axis "{word}"{nearest(word, (*AXES, *WORDS))}')
    return axis


def differing(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[str, ...]:
    """Return the axes in which two combinations differ, in their order."""
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
    """Return the line between two cells.

    `axis`: required if they differ in several; `hold`: axes of the stack that do not change with
    megatron-core; `patches`: use every patch release, not only the newest of each series.

    Raises:
        UsageError: the cells are the same, do not differ in `axis`, or differ in several axes and
            `axis` is None.
    """
    other = differing(good.pins, bad.pins)
    # If true, the stacks differ only because each cell has its series' default.
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
    """Return the one axis in which two cells differ; a stack that changes with megatron-core does
    not count."""
    if not other:
        raise UsageError(f"{good.name} and {bad.name} are the same combination")
    chosen = [axis for axis in other if not (moves and axis in STACK)]
    if len(chosen) > 1:
        raise UsageError(
            f"{good.name} and {bad.name} differ in {', '.join(chosen)}: name one with --axis; "
            "the others stay as in --good"
        )
    return chosen[0]


def _releases(axis: str, old: str, new: str, facts: Facts) -> list[str]:
    """Return the releases strictly between two, oldest first, without yanked ones and
    pre-releases."""
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
    """Return the newest release of each series, without the series of the newer end."""
    by_series = {series_of(version): version for version in known}
    return [version for series, version in by_series.items() if series != series_of(new)]


def cell_with(pins: Mapping[str, str], moving: Collection[str], facts: Facts) -> Cell:
    """Return the cell of these pins; axes in `moving` have the versions of the series' stack.

    If the default cell of the pair is this combination, it is used, with the stack of its lock,
    which does not depend on this machine.
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
    """Return the same combination in the spelling of cells' names.

    Raises:
        UsageError: a series or release does not exist; names the nearest.
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
    """Return a version as in a cell's name: the series for its newest release."""
    if axis == PYTHON:
        return version
    series = series_of(version)
    return series if releases.newest(axis, series).version == version else version


def refusal(cell: Cell, facts: Facts) -> str:
    """Return why metadata says that a cell cannot be installed; empty if it does not say so."""
    return "; ".join(_refusals(cell, facts))


def _refusals(cell: Cell, facts: Facts) -> Iterator[str]:
    for rule in facts.matrix.exclusions:
        if rule.covers(cell.mcore, cell.modelopt):
            yield f"excluded: {rule.reason}"
    yield from combinations.violations(cell, facts.releases)


def _notes(bad: Cell, axis: str, points: Sequence[Point]) -> tuple[str, ...]:
    """Return a note if the bad end is not the given cell; the good end always is."""
    if any(point.cell.pins == bad.pins for point in points):
        return ()
    (end,) = (p.cell for p in (points[0], points[-1]) if bad.pins[axis] == p.version)
    return unlike(bad, end)


def unlike(bad: Cell, end: Cell) -> tuple[str, ...]:
    """Return a note if the end is another cell than the bad one."""
    if bad.pins == end.pins:
        return ()
    return (f"instead of --bad {bad.name}: {end.name}, otherwise as --good",)


def stacks(line: ReleaseLine, low: int, high: int) -> dict[str, tuple[str, str]]:
    """Return the other axes that change between two points, each with its two versions."""
    old, new = (line.points[place].cell.pins for place in (low, high))
    return {axis: (old[axis], new[axis]) for axis in differing(old, new) if axis != line.axis}


def skipped(line: ReleaseLine, start: int, end: int) -> tuple[str, ...]:
    """Return the releases between two points that have no point."""
    if not line.without:
        return ()  # other lines have points that are not versions
    low, high = (Version(line.points[place].version) for place in (start, end))
    return tuple(v for v in line.without if low < Version(v) < high)
