"""How checkpoints load between cells similar to FROM and TO, for the ways of loading that were not
tested between FROM and TO themselves. These results do not decide the answer. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from mcore_compat.analysis.bisect.release_line import differing
from mcore_compat.core.cells import AXES, parsed, series_of
from mcore_compat.results.result import Result, Source
from mcore_compat.upgrade import checkpoints as loads
from mcore_compat.upgrade.checkpoints import Load, Route
from mcore_compat.upgrade.sides import Side, UpgradeInputs

MCORE, MODELOPT = AXES[:2]

FINE = frozenset({Load.WORKS, Load.NOT_SAVED, Load.BEFORE})


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Two cells such that the checkpoints of `origin` were loaded in `target`. `origin_pins` and
    `target_pins`: the pins that differ from FROM and TO; `routes`: how those checkpoints load that
    were not tested between FROM and TO."""

    origin: str
    target: str
    origin_pins: Mapping[str, str]
    target_pins: Mapping[str, str]
    routes: tuple[Route, ...]
    taken: str

    @property
    def fails(self) -> tuple[Route, ...]:
        """The checkpoints that are not known to load between them."""
        return tuple(r for r in self.routes if r.load not in FINE)


def neighbours(
    origin: Side, target: Side, ways: Collection[str], known: UpgradeInputs
) -> tuple[Neighbours, ...]:
    """For each way of loading in `ways`, the two cells nearest to FROM and TO that were tested for
    it. Cells of the same megatron-core series come first; each pair appears once."""
    pairs = sorted(_pairs(origin, target, known), key=lambda p: _apart(origin, target, *p))
    by_pair: dict[tuple[str, str], set[str]] = {}
    for way in ways:
        nearest = next((p for p in pairs if way in p[1].sources[p[0].cell].ways), None)
        if nearest is not None:
            by_pair.setdefault((nearest[0].cell, nearest[1].cell), set()).add(way)
    return tuple(
        _neighbours(origin, target, saved, loaded, by_pair[saved.cell, loaded.cell], known)
        for saved, loaded in pairs
        if (saved.cell, loaded.cell) in by_pair
    )


def _pairs(origin: Side, target: Side, known: UpgradeInputs) -> Iterator[tuple[Result, Result]]:
    """Pairs of results: a cell that saved checkpoints, and another cell that loaded them. Without
    the pair FROM and TO."""
    tested = {e.cell: e for e in known.found}
    for loaded in known.loads:
        for name in loaded.sources:
            pair = name, loaded.cell
            if name in tested and name != loaded.cell and pair != (origin.name, target.name):
                yield tested[name], loaded


def _apart(
    origin: Side, target: Side, saved: Result, loaded: Result
) -> tuple[int, int, int, int, str, str]:
    """How far two cells are from FROM and TO, to sort by."""
    ends = (
        (origin.pins, _source(saved, loaded).pins),
        (target.pins, loaded.pins),
    )
    others = sum(series_of(a[MCORE]) != series_of(b[MCORE]) for a, b in ends)
    mcore, modelopt = (sum(_number(a[x], b[x]) for a, b in ends) for x in (MCORE, MODELOPT))
    moved = sum(len(differing(a, b)) for a, b in ends)
    return others, mcore, modelopt, moved, saved.cell, loaded.cell


def _source(saved: Result, loaded: Result) -> Source:
    return loaded.sources[saved.cell]


def _number(one: str, other: str) -> int:
    """The distance between the series of two versions."""
    first, second = parsed(one), parsed(other)
    return abs((first.major - second.major) * 1000 + first.minor - second.minor)


def _neighbours(
    origin: Side,
    target: Side,
    saved: Result,
    loaded: Result,
    ways: Collection[str],
    known: UpgradeInputs,
) -> Neighbours:
    over = loads.checkpoints(saved, loaded.cell, known)
    source = _source(saved, loaded)
    ends = (origin.pins, source.pins), (target.pins, loaded.pins)
    unlike = [{axis: there[axis] for axis in differing(here, there)} for here, there in ends]
    return Neighbours(
        origin=saved.cell,
        target=loaded.cell,
        origin_pins=unlike[0],
        target_pins=unlike[1],
        routes=tuple(r for r in over.routes if r.way in ways and r.counts),
        taken=source.taken,
    )
