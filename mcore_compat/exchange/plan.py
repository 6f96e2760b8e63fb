"""Which cells load what of which other cells. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mcore_compat.core.cells import Cell, parsed, series_of
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.outcomes import CORE_KIND, HOLDS
from mcore_compat.results.result import Result

WAYS: Mapping[str, str] = {
    "default": "default",
    "modelopt": "modelopt",
    "default-to-modelopt": "default",
    "quantized": "quantized",
}
"""By way of loading: the kind of checkpoint that it loads. As in the suite (a test compares the
two): a default-spec checkpoint is loaded into the default spec and into ModelOpt's."""

STATE = "quantized"

STATE_KIND = "modelopt-state-fp8"
"""The check that tests within one cell what `quantized` tests between two."""

SAVE_S, LOAD_S, START_S = 1.2, 1.0, 25.0
"""Seconds to save a checkpoint, to load one, and to import the packages of a cell; measured on two
shared cores."""

FAMILIES = 4


@dataclass(frozen=True, kw_only=True, order=True)
class Pair:
    """`origin` saved what `target` loads, in these ways; cells by name."""

    target: str
    origin: str
    ways: tuple[str, ...]


def representatives(cells: Sequence[Cell], found: Iterable[Result]) -> tuple[Cell, ...]:
    """For each megatron-core series its default cell with the newest ModelOpt of those that restore
    the most families, then the most quantized ones; without results the newest of all."""
    found = tuple(found)
    works = {
        e.cell: tuple(
            sum(c.kind == kind and c.outcome in HOLDS for c in e.checks)
            for kind in (CORE_KIND, STATE_KIND)
        )
        for e in found
    }
    asked = {e.cell for e in found if any(c.kind == CORE_KIND for c in e.checks)}
    best: dict[str, Cell] = {}
    for cell in cells:
        if cell.default:
            series = series_of(cell.mcore)
            best[series] = max(
                (cell, best.get(series, cell)),
                key=lambda c: (works.get(c.name, (0, 0)), c.name in asked, parsed(c.modelopt)),
            )
    return tuple(best[series] for series in sorted(best, key=parsed))


def over_modelopt(cells: Sequence[Cell], found: Iterable[Result], series: str) -> list[Cell]:
    """The default cells of a megatron-core series that have checks in their result, or no
    result."""
    stopped = {e.cell for e in found if e.reason}
    return [
        c for c in cells if c.default and series_of(c.mcore) == series and c.name not in stopped
    ]


def default(cells: Sequence[Cell], found: Sequence[Result], matrix: Matrix) -> tuple[Pair, ...]:
    """Every way between all megatron-core series; quantized state between all ModelOpt series."""
    mcore = [c.name for c in representatives(cells, found)]
    state: list[str] = []
    if matrix.state_over is not None:
        state = [c.name for c in over_modelopt(cells, found, matrix.state_over)]
    return joined((*between(mcore, mcore), *between(state, state, (STATE,))))


def between(
    origins: Iterable[str], targets: Iterable[str], ways: Iterable[str] = tuple(WAYS)
) -> tuple[Pair, ...]:
    """Every origin with every target, also with itself: that shows failures without another
    release."""
    targets, ways = tuple(targets), tuple(ways)
    return tuple(Pair(target=t, origin=o, ways=ways) for o in origins for t in targets)


def joined(pairs: Iterable[Pair]) -> tuple[Pair, ...]:
    """Each pair of cells once, with all its ways."""
    ways: dict[tuple[str, str], set[str]] = {}
    for pair in pairs:
        ways.setdefault((pair.target, pair.origin), set()).update(pair.ways)
    return tuple(
        Pair(target=t, origin=o, ways=tuple(w for w in WAYS if w in found))
        for (t, o), found in sorted(ways.items())
    )


def only(pairs: Iterable[Pair], ways: Sequence[str]) -> tuple[Pair, ...]:
    """The pairs with only these ways; all ways if none is named."""
    kept = (replace(p, ways=tuple(w for w in p.ways if w in ways or not ways)) for p in pairs)
    return tuple(pair for pair in kept if pair.ways)


def describe(todo: Sequence[Pair], saves: Sequence[str], fresh: int, jobs: int = 1) -> list[str]:
    """What would run, and about how long it takes, line by line."""
    loads = Counter[str]()
    for pair in todo:
        loads[pair.target] += len(pair.ways) * FAMILIES
    lines = [f"{cell}: saves its checkpoints" for cell in saves]
    for target in sorted(loads):
        origins = sum(pair.target == target for pair in todo)
        lines.append(f"{target}: loads from {origins} cells, {loads[target]} checks at most")
    seconds = len(saves) * (START_S + 3 * FAMILIES * SAVE_S)
    seconds += len(loads) * START_S + sum(loads.values()) * LOAD_S
    lines.append(f"{len(saves)} cells to save, {len(todo)} pairs to load, {fresh} up to date")
    if todo or saves:
        lines.append(
            f"time: about {seconds / jobs / 60:.0f} min, plus that of missing environments"
        )
    return lines
