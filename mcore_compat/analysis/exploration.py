"""Stage evidence → next cells: which untested combinations off the default stacks would tell most.

The axes of Transformer Engine and torch cannot be run as a full product. A candidate is one axis
away from a cell that came to its checks; what it would tell is counted, with the reason in words,
and set against the minutes that it costs. Pure: data in, data out.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from packaging.version import Version

from mcore_compat.analysis.declarations import holds
from mcore_compat.analysis.explanation import Explained
from mcore_compat.analysis.rules import inside
from mcore_compat.core.cells import AXES, Cell, series_of
from mcore_compat.core.outcomes import HOLDS
from mcore_compat.results.evidence import Evidence

VARIED = ("transformer-engine", "torch")
"""The axes of which more versions are sought; all pairs of the other two are run anyway."""

WANTED = 3
"""Versions of each varied axis that each megatron-core series should have been tested with."""

BOUNDARY, DIVIDES, FEW, GUARD, PAIR = 6.0, 3.0, 8.0, 1.0, 0.02
"""What a candidate is worth: for each boundary that it halves, each group of failures whose rules
it tells apart, an axis with fewer than `WANTED` versions, each guard whose other side was not
tested, each pair of versions that no cell has. Chosen so that the reasons come in this order."""


@dataclass(frozen=True, kw_only=True)
class CellChoice:
    """A cell worth running: why, in words, the one that counts most first; and for how long."""

    cell: Cell
    reasons: tuple[str, ...]
    minutes: float


Guards = Mapping[str, tuple[str, ...]]
"""By megatron-core series: the version guards of its cells' packages, as specifiers such as
`transformer-engine>=2.13.0`."""


@dataclass(kw_only=True)
class TestedCells:
    """What counts as tested: cells with evidence from checks, then those that were chosen."""

    names: set[str] = field(default_factory=set)
    near: set[tuple[str, ...]] = field(default_factory=set)
    pairs: set[tuple[str, str, str, str]] = field(default_factory=set)
    versions: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    """By axis and megatron-core series: the versions of the axis that it was tested with."""
    built: set[str] = field(default_factory=set)

    def add(self, name: str, pins: Mapping[str, str], keys: Iterable[str] = ()) -> None:
        series = series_of(pins["megatron-core"])
        self.names.add(name)
        self.near.update(_rest(axis, pins) for axis in AXES)
        self.pairs.update(pairs(pins))
        for axis in VARIED:
            self.versions.setdefault((axis, series), set()).add(pins[axis])
        self.built.update(keys)


def state_of(evidence: Iterable[Evidence]) -> TestedCells:
    """What the evidence has tested; a cell that did not come to its checks tests nothing."""
    tested = TestedCells()
    for e in evidence:
        if e.checks:
            tested.add(e.cell, e.pins)
        else:
            tested.names.add(e.cell)
    return tested


def _rest(axis: str, pins: Mapping[str, str]) -> tuple[str, ...]:
    """What two cells share that differ in `axis` alone."""
    return (axis, *(pins[other] for other in AXES if other != axis))


def bases(evidence: Iterable[Evidence], explained: Sequence[Explained]) -> set[tuple[str, str]]:
    """The pairs of megatron-core and ModelOpt from which to go on: of each series the one in which
    most checks work, and of each failure whose rule names TE or torch the newest."""
    by_name = {e.cell: e for e in evidence if e.checks}
    best: dict[str, tuple[int, Version, Evidence]] = {}
    for e in by_name.values():
        works = sum(c.outcome in HOLDS for c in e.checks)
        row = (works, Version(e.pins["nvidia-modelopt"]), e)
        series = series_of(e.pins["megatron-core"])
        if series not in best or row[:2] > best[series][:2]:
            best[series] = row
    chosen = [row[2] for row in best.values()]
    for failure in explained:
        if any(axis in rule.axes for rule in failure.rules for axis in VARIED):
            failed = [by_name[s.cell] for s in failure.seen if s.broken and s.cell in by_name]
            chosen += sorted(failed, key=lambda e: Version(e.pins["megatron-core"]))[-1:]
    return {(e.pins["megatron-core"], e.pins["nvidia-modelopt"]) for e in chosen}


def pairs(pins: Mapping[str, str]) -> Iterator[tuple[str, str, str, str]]:
    """`(axis, version, other axis, its version)` of a cell."""
    for axis, other in itertools.combinations(AXES, 2):
        yield axis, pins[axis], other, pins[other]


def coverage(state: TestedCells, possible: Iterable[Cell]) -> tuple[int, int]:
    """How many pairs of versions were tested together, of those that can be installed."""
    every = {pair for cell in possible for pair in pairs(cell.pins)}
    return len(every & state.pairs), len(every)


def candidates(possible: Iterable[Cell], state: TestedCells) -> Iterator[Cell]:
    """The untested cells that differ from a tested one in one axis alone: in TE or torch, or in
    megatron-core from one that was run on this very TE and torch."""
    for cell in possible:
        if cell.name not in state.names and any(
            _rest(axis, cell.pins) in state.near for axis in AXES
        ):
            yield cell


def worth(
    cell: Cell, state: TestedCells, explained: Sequence[Explained], guards: Guards
) -> tuple[float, tuple[str, ...]]:
    """What running a cell would tell, and why, the weightiest reason first."""
    reasons = [*_boundaries(cell, explained), *_divided(cell, explained)]
    reasons += [*_few(cell, state), *_guarded(cell, state, guards)]
    new = len(set(pairs(cell.pins)) - state.pairs)
    if new:
        reasons.append((PAIR * new, f"{new} pairs of versions that no cell has"))
    reasons.sort(key=lambda row: (-row[0], row[1]))
    return sum(value for value, _ in reasons), tuple(text for _, text in reasons)


def _boundaries(cell: Cell, explained: Sequence[Explained]) -> Iterator[tuple[float, str]]:
    """The boundaries of rules between which the cell lies."""
    for failure in explained:
        for rule in failure.rules:
            for bound in rule.bounds:
                others = [axis for axis in rule.axes if axis != bound.axis]
                if bound.axis not in VARIED or not set(others) <= set(AXES):
                    continue
                if not all(rule.admits(axis, cell.pins[axis]) for axis in others):
                    continue
                for ends in bound.gaps():
                    works, fails = sorted(ends, key=lambda v: inside(v, bound.low, bound.high))
                    low, high = sorted(map(Version, ends))
                    if low < Version(cell.pins[bound.axis]) < high:
                        yield (
                            BOUNDARY / len(failure.rules),
                            f"{failure.checks[0]} works at {bound.axis} {works} and fails at "
                            f"{fails}: {cell.pins[bound.axis]} lies between",
                        )


def _divided(cell: Cell, explained: Sequence[Explained]) -> Iterator[tuple[float, str]]:
    """The failures whose rules say different things of the cell."""
    for failure in explained:
        for rivals in failure.rivals():
            fit = [rule for rule in rivals if set(rule.axes) <= set(AXES)]
            if 0 < sum(rule.holds(cell.pins) for rule in fit) < len(fit):
                decides = " or ".join(dict.fromkeys(" with ".join(rule.axes) for rule in fit))
                yield DIVIDES, f"tells whether {decides} decides over {failure.checks[0]}"


def _few(cell: Cell, state: TestedCells) -> Iterator[tuple[float, str]]:
    """The axes of which the cell's series was tested with few versions."""
    series = series_of(cell.mcore)
    for axis in VARIED:
        tested = state.versions.get((axis, series), set())
        if cell.pins[axis] not in tested and len(tested) < WANTED:
            count = f"{len(tested)} version{'s' if len(tested) > 1 else ''}"
            yield (
                FEW / max(1, len(tested)),
                f"megatron-core {series} was tested with {count} of {axis}",
            )


def _guarded(cell: Cell, state: TestedCells, guards: Guards) -> Iterator[tuple[float, str]]:
    """The version guards in the cell's packages of which only the other side was tested."""
    series = series_of(cell.mcore)
    crossed = []
    for text in guards.get(series, ()):
        axis = next((a for a in VARIED if text.startswith(a)), None)
        if axis is None:
            continue
        specifier = text.removeprefix(axis)
        side = holds(specifier, cell.pins[axis])
        tested = {holds(specifier, v) for v in state.versions.get((axis, series), ())}
        if side is not None and side not in tested:
            crossed.append(text)
    if crossed:
        shown = ", ".join(crossed[:3]) + (", …" if len(crossed) > 3 else "")
        yield (
            GUARD * min(len(crossed), 5),
            f"megatron-core {series} was tested on one side only of its own guards {shown}",
        )


def guards_of(evidence: Iterable[Evidence]) -> Guards:
    """By megatron-core series: the guards that its cells recorded. Sorted."""
    texts: dict[str, set[str]] = {}
    for e in evidence:
        of_series = texts.setdefault(series_of(e.pins["megatron-core"]), set())
        for package, places in e.recorded("version-guards").items():
            if package in AXES and isinstance(places, Mapping):
                of_series.update(places)
    return {series: tuple(sorted(texts[series])) for series in sorted(texts) if texts[series]}


def choose(
    possible: Sequence[Cell],
    state: TestedCells,
    explained: Sequence[Explained],
    guards: Guards,
    *,
    minutes: float,
    cost: Mapping[str, tuple[tuple[str, ...], float]],
    cell_minutes: float,
    refused: Collection[str] = (),
) -> tuple[CellChoice, ...]:
    """The cells that tell most for their cost, as many as fit into `minutes`.

    `cost`: by cell name the keys of the wheels that must be built and the minutes for each;
    `refused`: keys that are known not to build. Each choice counts as tested for the next.
    """
    chosen: list[CellChoice] = []
    spent = 0.0
    while True:
        options: list[tuple[float, str, CellChoice]] = []
        for cell in candidates(possible, state):
            keys, each = cost.get(cell.name, ((), 0.0))
            if set(keys) & set(refused):
                continue
            price = cell_minutes + each * len(set(keys) - state.built)
            if spent + price > minutes:
                continue
            value, reasons = worth(cell, state, explained, guards)
            # A wheel that is built once serves every later cell of its stack: half its price.
            rank = -value / (cell_minutes + (price - cell_minutes) / 2)
            if value:
                choice = CellChoice(cell=cell, reasons=reasons, minutes=price)
                options.append((rank, cell.name, choice))
        if not options:
            return tuple(chosen)
        *_, choice = min(options, key=lambda option: option[:2])
        chosen.append(choice)
        spent += choice.minutes
        state.add(choice.cell.name, choice.cell.pins, cost.get(choice.cell.name, ((), 0.0))[0])
