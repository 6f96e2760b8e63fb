"""What a rule says of a failure, in data and in words, and which cell would test it best. Pure.

A rule is never stated more widely than its evidence: its bounds are versions that were seen to
fail, beside each stands what was seen next to it, and what lies within is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

import msgspec

from mcore_compat.core.cells import AXES, parsed

if TYPE_CHECKING:
    from packaging.version import Version


MOST_TRIED = 30
"""Cells that fail beside which an untested one is sought: of one failure all are alike."""


class FailureState(str, Enum):
    """What a cell says of a failure; what tells most comes first."""

    FAILS = "fails"
    WORKS = "works"
    OTHERWISE = "fails otherwise"
    BLOCKED = "blocked"
    NEEDS_GPU = "needs-gpu"
    UNSUPPORTED = "unsupported"
    UNRESOLVABLE = "unresolvable"
    UNBUILDABLE = "unbuildable"

    def __str__(self) -> str:
        return self.value


NO_CHECKS = (FailureState.UNRESOLVABLE, FailureState.UNBUILDABLE)
"""The cell did not come to its checks."""

_OTHERS = {
    FailureState.OTHERWISE: ("fails otherwise", "fail otherwise"),
    FailureState.BLOCKED: ("is blocked", "are blocked"),
    FailureState.NEEDS_GPU: ("needs a GPU", "need a GPU"),
    FailureState.UNSUPPORTED: ("is unsupported", "are unsupported"),
    FailureState.UNRESOLVABLE: ("is unresolvable", "are unresolvable"),
    FailureState.UNBUILDABLE: ("is unbuildable", "are unbuildable"),
}
"""How one cell, and how several, are told of that neither fail so nor work."""


@dataclass(frozen=True, kw_only=True)
class CellState:
    """One cell's answer to a group's checks."""

    cell: str
    pins: Mapping[str, str]
    state: FailureState

    @property
    def broken(self) -> bool:
        return self.state is FailureState.FAILS

    @property
    def works(self) -> bool:
        return self.state is FailureState.WORKS


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """A version beside a bound, and what was seen there."""

    version: str
    state: FailureState = msgspec.field(name="said")


@dataclass(frozen=True, kw_only=True)
class Bound:
    """An interval of one axis: `low` and `high` were seen to fail.

    All else within the rule: `below` and `above` are the nearest versions on either side that were
    seen to work, None where none was; `next_below` and `next_above` the nearest ones that were
    tested at all, and what was seen there, None where nothing was tested.
    """

    axis: str
    low: str
    high: str
    below: str | None
    above: str | None
    next_below: Beside | None = None
    next_above: Beside | None = None

    def specifier(self) -> str:
        """The interval as PEP 440 writes it: `megatron-core>=0.13.0,<=0.16.1`."""
        if self.low == self.high:
            return f"{self.axis}=={self.low}"
        return f"{self.axis}>={self.low},<={self.high}"

    def edges(self) -> str:
        """Where its boundaries may lie, in words."""
        return f"{self.edge_below()}, {self.edge_above()}"

    def gaps(self) -> tuple[tuple[str, str], ...]:
        """`(one version, other version)` of each side on which what works stands next to what
        fails, of all that was tested: the boundary lies between."""
        found = []
        if self.below and self.next_below and self.next_below.state is FailureState.WORKS:
            found.append((self.below, self.low))
        if self.above and self.next_above and self.next_above.state is FailureState.WORKS:
            found.append((self.high, self.above))
        return tuple(found)

    def edge_below(self) -> str:
        return _edge(self.next_below, self.below) or "not tested below"

    def edge_above(self) -> str:
        return _edge(self.next_above, self.above) or "not tested above"


def _edge(nearest: Beside | None, works: str | None) -> str:
    if nearest is None:
        return ""
    said = f"{nearest.state} at {nearest.version}"
    return (
        f"{said} and works at {works}"
        if works and nearest.state is not FailureState.WORKS
        else said
    )


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Where a failure happens. `support` are the cells in which it was seen, `works` counts those
    in which the same checks work; `contradicted` are cells within the bounds in which they do, and
    `others` those within that say neither. `checks`: those whose failures it is about, where the
    group's do not fail together; else empty."""

    bounds: tuple[Bound, ...]
    support: tuple[str, ...]
    works: int
    contradicted: tuple[str, ...]
    others: tuple[CellState, ...] = ()
    checks: tuple[str, ...] = ()

    def text(self) -> str:
        return " and ".join(bound.specifier() for bound in self.bounds)

    def holds(self, pins: Mapping[str, str]) -> bool:
        """Whether a cell lies within the rule."""
        return all(inside(pins[b.axis], b.low, b.high) for b in self.bounds)

    def admits(self, axis: str, version: str) -> bool:
        """Whether a version of one axis lies within the rule."""
        return all(inside(version, b.low, b.high) for b in self.bounds if b.axis == axis)

    @property
    def axes(self) -> tuple[str, ...]:
        return tuple(bound.axis for bound in self.bounds)

    def others_text(self) -> str:
        """`18 fail otherwise, 2 are blocked`: the other cells within it; empty where none is."""
        counts = Counter(one.state for one in self.others)
        return ", ".join(
            f"{counts[said]} {words[counts[said] > 1]}"
            for said, words in _OTHERS.items()
            if counts[said]
        )


def rivals(rules: Iterable[Rule]) -> tuple[tuple[Rule, ...], ...]:
    """The rules about the same checks together: they cannot be told apart by what was tested."""
    found: dict[tuple[str, ...], list[Rule]] = {}
    for rule in rules:
        found.setdefault(rule.checks, []).append(rule)
    return tuple(map(tuple, found.values()))


def inside(version: str, low: str, high: str) -> bool:
    """Whether a version lies in a closed interval."""
    return parsed(low) <= parsed(version) <= parsed(high)


class UntestedCells(Protocol):
    """The untested cells that may be proposed."""

    @property
    def beside(self) -> Callable[[str, str], Sequence[str]]:
        """By axis and version: the other versions of the axis, the nearest first."""

    def named(self, pins: Mapping[str, str]) -> str | None:
        """The cell of these pins; None where it was tested or cannot be proposed."""


Asked = Callable[[str, str], bool | None]
"""Whether the checks were seen to fail so or to work at a version of an axis. False: it was tested,
but they are not there, or never come to their turn. None: it was not tested."""


def next_cell(
    rules: Sequence[Rule], broken: Sequence[CellState], asked: Asked, untested: UntestedCells
) -> str | None:
    """The untested cell that would tell most, unlike one that fails in one axis alone, so that one
    version makes the difference; newest releases first.

    Where several rules fit: a cell on which they are divided. Where one does: a cell between a
    version that fails and its neighbour that works, nearest to the middle.
    """
    for fit in rivals(rules):
        if len(fit) == 1 and not any(bound.gaps() for bound in fit[0].bounds):
            continue
        support = set(fit[0].support)
        mine = sorted((s for s in broken if s.cell in support), key=_versions, reverse=True)
        for one in mine[:MOST_TRIED]:
            moves = _dividing(fit, one.pins, asked, untested)
            for axis, version in moves or _between(fit[0], one.pins, untested):
                pins = {**one.pins, axis: version}
                name = untested.named(pins) if asked(axis, version) is not False else None
                if name:
                    return name
    return None


def _versions(one: CellState) -> list[Version]:
    return [parsed(one.pins[axis]) for axis in AXES]


def _dividing(
    fit: Sequence[Rule], pins: Mapping[str, str], asked: Asked, untested: UntestedCells
) -> list[tuple[str, str]]:
    """Moves along one axis to what some of the rules hold and some do not: first what half of them
    hold, then of versions that were seen before."""
    half = len(fit) / 2
    ranks: list[tuple[float, bool, int, tuple[str, str]]] = []
    for axis in AXES:
        for version in untested.beside(axis, pins[axis]):
            # All else is as in a cell that fails, and so within every rule.
            held = sum([rule.admits(axis, version) for rule in fit])
            if 0 < held < len(fit):
                new = asked(axis, version) is None
                ranks.append((abs(held - half), new, len(ranks), (axis, version)))
    return [move for *_, move in sorted(ranks)]


def _between(rule: Rule, pins: Mapping[str, str], untested: UntestedCells) -> list[tuple[str, str]]:
    """Moves along one axis on the way from what fails to what works, to the middle first."""
    moves = []
    for bound in rule.bounds:
        for low, high in bound.gaps():
            versions = [
                version
                for version in untested.beside(bound.axis, pins[bound.axis])
                if parsed(low) < parsed(version) < parsed(high)
            ]
            versions.sort(key=parsed)
            middle = len(versions) // 2
            order = sorted(range(len(versions)), key=lambda place: abs(place - middle))
            moves += [(bound.axis, versions[place]) for place in order]
    return moves
