"""Rules: with which versions a failure happens, as the smallest boxes over the axes' versions that
hold it. Pure.

A box holds all cells in which the failure happens and none in which the same checks work; if
possible also none in which they fail otherwise or could not run. A rule never claims more than its
results: its bounds are versions that fail, each bound has the result of its neighbour, and other
cells in the box are counted.

For speed, a set of cells is an integer, whose bits are the cells' places.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from mcore_compat.core.cells import AXES, parsed

MOST_AXES = 3
"""The most axes of a rule; one over more axes explains nothing."""


class FailureState(StrEnum):
    """The state of a cell for a failure, the most telling first."""

    FAILS = "fails"
    WORKS = "works"
    WORKS_WITH = "works-with"
    OTHERWISE = "fails otherwise"
    BLOCKED = "blocked"
    NEEDS_GPU = "needs-gpu"
    UNSUPPORTED = "unsupported"
    UNRESOLVABLE = "unresolvable"
    UNBUILDABLE = "unbuildable"


FAILS, WORKS = FailureState.FAILS, FailureState.WORKS

NO_CHECKS = (FailureState.UNRESOLVABLE, FailureState.UNBUILDABLE)
"""The states of a cell that ran no checks."""

_OTHERS = {
    FailureState.WORKS_WITH: ("works under a condition", "work under a condition"),
    FailureState.OTHERWISE: ("fails otherwise", "fail otherwise"),
    FailureState.BLOCKED: ("is blocked", "are blocked"),
    FailureState.NEEDS_GPU: ("needs a GPU", "need a GPU"),
    FailureState.UNSUPPORTED: ("is unsupported", "are unsupported"),
    FailureState.UNRESOLVABLE: ("is unresolvable", "are unresolvable"),
    FailureState.UNBUILDABLE: ("is unbuildable", "are unbuildable"),
}
"""Words for one cell, and for several, in which the checks neither fail with the failure nor
work."""

CellsByState = Mapping[FailureState, int]
"""Sets of cells; a cell is in at most one of them."""


@dataclass(frozen=True, kw_only=True)
class CellSighting:
    """One cell and its state for a failure."""

    cell: str
    pins: Mapping[str, str]
    state: FailureState

    @property
    def broken(self) -> bool:
        return self.state is FAILS


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """A version next to a bound, and its state."""

    version: str
    state: FailureState = msgspec.field(name="said")


@dataclass(frozen=True, kw_only=True)
class Bound:
    """An interval of one axis: `low` and `high` were tested and fail.

    With the other axes within the rule, `below` and `above` are the nearest versions on either side
    that work, `next_below` and `next_above` the nearest tested ones with their states; None if
    there is none.
    """

    axis: str
    low: str
    high: str
    below: str | None
    above: str | None
    next_below: Beside | None = None
    next_above: Beside | None = None

    def specifier(self) -> str:
        """Return the interval as a PEP 440 requirement: `megatron-core>=0.13.0,<=0.16.1`."""
        if self.low == self.high:
            return f"{self.axis}=={self.low}"
        return f"{self.axis}>={self.low},<={self.high}"

    def edges(self) -> str:
        """Return the states next to both bounds, in words."""
        return f"{self.edge_below()}, {self.edge_above()}"

    def edge_below(self) -> str:
        return _edge(self.next_below, self.below) or "not tested below"

    def edge_above(self) -> str:
        return _edge(self.next_above, self.above) or "not tested above"

    def gaps(self) -> tuple[tuple[str, str], ...]:
        """Return `(lower version, higher version)` for each side on which the nearest tested
        version works: the failure begins or ends between the two."""
        sides = (
            (self.next_below, self.below, (self.below, self.low)),
            (self.next_above, self.above, (self.high, self.above)),
        )
        return tuple(
            (str(low), str(high))
            for beside, works, (low, high) in sides
            if works and beside and beside.state is WORKS
        )


def _edge(nearest: Beside | None, works: str | None) -> str:
    if nearest is None:
        return ""
    text = f"{nearest.state} at {nearest.version}"
    return f"{text} and works at {works}" if works and nearest.state is not WORKS else text


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The versions with which a failure happens. `support`: the cells in which it happens; `works`:
    the number of cells in which the same checks work; `contradicted`: such cells within the bounds;
    `others`: cells within the bounds in any other state. `checks`: the checks that the rule is
    about, if those of the failure do not all fail together; else empty."""

    bounds: tuple[Bound, ...]
    support: tuple[str, ...]
    works: int
    contradicted: tuple[str, ...]
    others: tuple[CellSighting, ...] = ()
    checks: tuple[str, ...] = ()

    def text(self) -> str:
        return " and ".join(bound.specifier() for bound in self.bounds)

    def holds(self, pins: Mapping[str, str]) -> bool:
        """Whether a cell is within the rule."""
        return all(axis in pins and self.admits(axis, pins[axis]) for axis in self.axes)

    def admits(self, axis: str, version: str) -> bool:
        """Whether a version of one axis is within the rule."""
        return all(inside(version, b.low, b.high) for b in self.bounds if b.axis == axis)

    @property
    def axes(self) -> tuple[str, ...]:
        return tuple(bound.axis for bound in self.bounds)

    def others_text(self) -> str:
        """Return `18 fail otherwise, 2 are blocked` for `others`; empty if there are none."""
        counts = Counter(cell.state for cell in self.others)
        return ", ".join(
            f"{counts[state]} {words[counts[state] > 1]}"
            for state, words in _OTHERS.items()
            if counts[state]
        )


def rivals(rules: Iterable[Rule]) -> tuple[tuple[Rule, ...], ...]:
    """Group rules by their checks: the tested cells do not show which rule of a group holds."""
    by_checks: dict[tuple[str, ...], list[Rule]] = {}
    for rule in rules:
        by_checks.setdefault(rule.checks, []).append(rule)
    return tuple(map(tuple, by_checks.values()))


def inside(version: str, low: str, high: str) -> bool:
    """Whether a version is in a closed interval."""
    return parsed(low) <= parsed(version) <= parsed(high)


def bits(places: Iterable[int], size: int) -> int:
    """Return the set of these places, all below `size`."""
    row = bytearray(size // 8 + 1)
    for place in places:
        row[place >> 3] |= 1 << (place & 7)
    return int.from_bytes(row, "little")


_BITS = [tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256)]
"""The places of the bits in each byte."""


def places(cells: int) -> list[int]:
    """Return the places of a set, in order."""
    row = cells.to_bytes(cells.bit_length() // 8 + 1, "little")
    return [8 * at + bit for at, byte in enumerate(row) if byte for bit in _BITS[byte]]


class CellGrid:
    """Cells by place, and by their versions of axes and other packages, which not all have."""

    def __init__(self, cells: Sequence[tuple[str, Mapping[str, str]]]) -> None:
        self.cells = cells
        self.all = (1 << len(cells)) - 1
        self._at: dict[str, dict[str, int]] = {}
        self._with: dict[str, int] = {}
        self._sightings: dict[FailureState, dict[int, CellSighting]] = {}

    def _by_version(self, axis: str) -> dict[str, int]:
        """Return the cells by version of an axis or another package; oldest first."""
        if axis not in self._at:
            at: dict[str, list[int]] = {}
            for place, (_, pins) in enumerate(self.cells):
                if axis in pins:
                    at.setdefault(pins[axis], []).append(place)
            order = sorted(at, key=parsed)
            self._at[axis] = {version: bits(at[version], len(self.cells)) for version in order}
        return self._at[axis]

    def at(self, axis: str, version: str) -> int:
        """Return the cells with a version of an axis."""
        return self._by_version(axis).get(version, 0)

    def versions(self, axis: str, cells: int) -> list[str]:
        """Return the versions of an axis among some cells, oldest first."""
        return [version for version, at in self._by_version(axis).items() if at & cells]

    def everywhere(self, axis: str, cells: int) -> bool:
        """Whether all of some cells have a version of an axis or another package."""
        if axis not in self._with:
            self._with[axis] = functools.reduce(operator.or_, self._by_version(axis).values(), 0)
        return not cells & ~self._with[axis]

    def span(self, axis: str, cells: int) -> int:
        """Return all cells from the oldest to the newest version among some cells."""
        every = [*self._by_version(axis).values()]
        some = [place for place, at in enumerate(every) if at & cells]
        return functools.reduce(operator.or_, every[some[0] : some[-1] + 1], 0)

    def states(self, states: CellsByState) -> tuple[CellSighting, ...]:
        """Return each cell with its state, by place."""
        at: dict[int, CellSighting] = {}
        for state, cells in states.items():
            seen = self._sightings.setdefault(state, {})
            for place in places(cells):
                if place not in seen:  # one object for all failures, of which there are thousands
                    cell, pins = self.cells[place]
                    seen[place] = CellSighting(cell=cell, pins=pins, state=state)
                at[place] = seen[place]
        return tuple(at[place] for place in sorted(at))

    def names(self, cells: int) -> tuple[str, ...]:
        return tuple(self.cells[place][0] for place in places(cells))

    def asked(self, states: CellsByState, axis: str, version: str) -> bool | None:
        """Whether the checks fail with the failure, or work, in a cell with a version of an axis.
        False: the version was tested, but there the checks do neither. None: it was not tested."""
        here = self.at(axis, version)
        if not any(here & cells for cells in states.values()):
            return None
        return bool(here & (states.get(FAILS, 0) | states.get(WORKS, 0)))


def boxes(
    grid: CellGrid,
    states: CellsByState,
    checks: tuple[str, ...] = (),
    suspects: Sequence[str] = (),
) -> tuple[Rule, ...]:
    """Return the smallest rules: those with the fewest cells in which the checks work, then the
    fewest in which they fail otherwise or are blocked, then over the fewest axes.

    If every rule holds cells in which the checks work, return one of the best. Return no rule if
    nothing fails, or if nothing works, because then no rule could be wrong. `suspects`: packages
    that the failure points at; rules over these come first, if they hold no cell that works.
    """
    suspects = [name for name in suspects if grid.everywhere(name, states.get(FAILS, 0))]
    rules: list[Rule] = []
    if suspects:
        costs = _costs(grid, states, (*suspects, *AXES))
        clean = {a: c for a, c in costs.items() if not c[0] and set(a) & set(suspects)}
        rules = [_rule(grid, states, axes, checks) for axes in _best(clean)]
    best = _best(_costs(grid, states))
    of_axes = [_rule(grid, states, axes, checks) for axes in best]
    if rules:  # next to these, a contradicted rule explains nothing
        return (*rules, *(rule for rule in of_axes if not rule.contradicted))
    return tuple(of_axes)


def _best(costs: Mapping[tuple[str, ...], tuple[int, int, int]]) -> list[tuple[str, ...]]:
    """Return the sets of axes with the least cost."""
    if not costs:
        return []
    least = min(costs.values())
    best = [axes for axes, cost in costs.items() if cost == least]
    return best[:1] if least[0] else best


def alone(grid: CellGrid, states: CellsByState, packages: Iterable[str]) -> tuple[str, ...]:
    """Return the packages whose versions alone separate all cells that fail from all that work.
    Sorted."""
    broken, works = states.get(FAILS, 0), states.get(WORKS, 0)
    if not broken or not works:
        return ()
    return tuple(
        name
        for name in sorted(packages)
        if grid.everywhere(name, broken) and not grid.span(name, broken) & works
    )


def wider(grid: CellGrid, states: CellsByState) -> tuple[Rule, ...]:
    """Return rules over no more axes that hold no cell that works either, but more cells in which
    the checks fail otherwise or are blocked. Those failures may hide that such a rule is right."""
    costs = _costs(grid, states)
    least = min(costs.values(), default=(1, 0, 0))
    clean = [axes for axes, (works, *_) in costs.items() if not works] if not least[0] else []
    smallest = [axes for axes in clean if not any(set(other) < set(axes) for other in clean)]
    return tuple(
        _rule(grid, states, axes)
        for axes in smallest
        if len(axes) <= least[2] and costs[axes][1] > least[1]
    )


def _costs(
    grid: CellGrid, states: CellsByState, axes_: Sequence[str] = AXES
) -> dict[tuple[str, ...], tuple[int, int, int]]:
    """Return the cost of each set of axes: the number of cells in the box over them in which the
    checks work, the number in which they fail otherwise or are blocked, and the number of axes. The
    least is the best."""
    broken, works = states.get(FAILS, 0), states.get(WORKS, 0)
    if not broken or not works:
        return {}
    otherwise = (
        states.get(FailureState.OTHERWISE, 0)
        | states.get(FailureState.WORKS_WITH, 0)
        | states.get(FailureState.BLOCKED, 0)
    )
    spans = {axis: grid.span(axis, broken) for axis in axes_}
    costs: dict[tuple[str, ...], tuple[int, int, int]] = {}
    for size in range(1, MOST_AXES + 1):
        for axes in itertools.combinations(axes_, size):
            box = functools.reduce(operator.and_, (spans[axis] for axis in axes))
            costs[axes] = (box & works).bit_count(), (box & otherwise).bit_count(), size
        if (0, 0, size) in costs.values():
            break  # no rule over more axes can be better
    return costs


def _rule(
    grid: CellGrid, states: CellsByState, axes: Sequence[str], checks: tuple[str, ...] = ()
) -> Rule:
    spans = {axis: grid.span(axis, states[FAILS]) for axis in axes}
    box = functools.reduce(operator.and_, spans.values())
    others = {state: box & cells for state, cells in states.items() if state not in (FAILS, WORKS)}
    return Rule(
        bounds=tuple(_bound(grid, states, axis, spans) for axis in axes),
        support=grid.names(states[FAILS]),
        works=states[WORKS].bit_count(),
        contradicted=grid.names(box & states[WORKS]),
        others=grid.states(others),
        checks=checks,
    )


def _bound(grid: CellGrid, states: CellsByState, axis: str, spans: Mapping[str, int]) -> Bound:
    """Return the interval of an axis and the states next to it, with all other axes within
    theirs."""
    rest = functools.reduce(operator.and_, (spans[a] for a in spans if a != axis), grid.all)
    failed = grid.versions(axis, states[FAILS])
    low, high = failed[0], failed[-1]
    tested = grid.versions(axis, rest)
    below = [v for v in reversed(tested) if parsed(v) < parsed(low)]
    above = [v for v in tested if parsed(v) > parsed(high)]
    works = rest & states[WORKS]
    return Bound(
        axis=axis,
        low=low,
        high=high,
        below=next((v for v in below if works & grid.at(axis, v)), None),
        above=next((v for v in above if works & grid.at(axis, v)), None),
        next_below=_nearest(grid, states, axis, below, rest),
        next_above=_nearest(grid, states, axis, above, rest),
    )


def _nearest(
    grid: CellGrid, states: CellsByState, axis: str, versions: Sequence[str], rest: int
) -> Beside | None:
    """Return the first of the versions that was tested, with its most telling state. Cells that ran
    no checks count only if no other cell was tested."""
    for wanted in ([state for state in FailureState if state not in NO_CHECKS], NO_CHECKS):
        for version in versions:
            here = rest & grid.at(axis, version)
            for state in wanted:
                if here & states.get(state, 0):
                    return Beside(version=version, state=state)
    return None
