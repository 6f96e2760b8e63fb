"""Stage evidence → rules: over which versions does a failure happen, as far as was tested. Pure.

For each fingerprint: the cells in which it was seen, and those in which the same checks work. A
rule is the smallest box over the axes' versions that holds all of the former and none of the
latter. It is never stated more widely than its evidence: its bounds are versions that were seen to
fail, and beside each stands the nearest one that works, or that nothing was tested there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mcore_compat.cells import AXES, Cell, parsed
from mcore_compat.evidence import Evidence
from mcore_compat.outcomes import FAILURES, CheckOutcome

MOST_AXES = 3
"""A rule over more axes than these explains nothing."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One cell's answer to a group's checks."""

    cell: str
    pins: Mapping[str, str]
    broken: bool


@dataclass(frozen=True, kw_only=True)
class Bound:
    """An interval of one axis: `low` and `high` were seen to fail.

    `below` and `above` are the nearest versions on either side that were seen to work, all else
    within the rule; None where nothing was tested there.
    """

    axis: str
    low: str
    high: str
    below: str | None
    above: str | None

    def specifier(self) -> str:
        """The interval as PEP 440 writes it: `megatron-core>=0.13.0,<=0.16.1`."""
        if self.low == self.high:
            return f"{self.axis}=={self.low}"
        return f"{self.axis}>={self.low},<={self.high}"

    def edges(self) -> str:
        """Where its boundaries may lie, in words."""
        low = f"works at {self.below}" if self.below else "not tested below"
        high = f"works at {self.above}" if self.above else "not tested above"
        return f"{low}, {high}"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Where a failure happens. `support` are the cells in which it was seen; `contradicted` are
    cells within the bounds in which the same checks work."""

    bounds: tuple[Bound, ...]
    support: tuple[str, ...]
    contradicted: tuple[str, ...]

    def text(self) -> str:
        return " and ".join(bound.specifier() for bound in self.bounds)

    def holds(self, pins: Mapping[str, str]) -> bool:
        """Whether a cell lies within the rule."""
        return all(inside(pins[b.axis], b.low, b.high) for b in self.bounds)

    @property
    def axes(self) -> tuple[str, ...]:
        return tuple(bound.axis for bound in self.bounds)


@dataclass(frozen=True, kw_only=True)
class Explained:
    """A failure over all cells: `rules` are equally small and cannot be told apart by what was
    tested; `next_cell` is the untested cell that would tell most, None where none would."""

    fingerprint: str
    checks: tuple[str, ...]
    seen: tuple[Seen, ...]
    rules: tuple[Rule, ...]
    next_cell: str | None

    def attributed(self) -> tuple[str, ...]:
        """The package, or the pair, whose version decides; several where that is not known."""
        return tuple(dict.fromkeys(" with ".join(rule.axes) for rule in self.rules))


def inside(version: str, low: str, high: str) -> bool:
    """Whether a version lies in a closed interval."""
    return parsed(low) <= parsed(version) <= parsed(high)


def groups(found: Iterable[Evidence]) -> dict[str, tuple[str, ...]]:
    """By fingerprint: the checks that failed with it anywhere. Sorted."""
    checks: dict[str, set[str]] = {}
    for evidence in found:
        for check in evidence.checks:
            if check.outcome in FAILURES and check.failure:
                checks.setdefault(check.failure.fingerprint, set()).add(check.check)
    return {fingerprint: tuple(sorted(checks[fingerprint])) for fingerprint in sorted(checks)}


def observations(
    found: Iterable[Evidence], fingerprint: str, checks: Sequence[str]
) -> tuple[Seen, ...]:
    """The cells that failed so, and those in which all of the group's checks that apply work.

    A cell in which they fail otherwise, or could not be asked, says nothing.
    """
    return _Answers(found).observations(fingerprint, checks)


class _Answers:
    """All evidence by check: a matrix of thousands of cells is asked once for each failure."""

    def __init__(self, found: Iterable[Evidence]) -> None:
        order = sorted(found, key=lambda e: e.cell)
        self._seen = {
            broken: [Seen(cell=e.cell, pins=e.pins, broken=broken) for e in order]
            for broken in (True, False)
        }
        self._works: dict[str, set[int]] = {}
        self._else: dict[str, set[int]] = {}
        self._failed: dict[tuple[str, str], set[int]] = {}
        for place, e in enumerate(order):
            for c in e.checks:
                if c.failure:
                    self._failed.setdefault((c.failure.fingerprint, c.check), set()).add(place)
                if c.outcome is CheckOutcome.WORKS:
                    self._works.setdefault(c.check, set()).add(place)
                elif c.outcome is not CheckOutcome.UNSUPPORTED:
                    self._else.setdefault(c.check, set()).add(place)

    def observations(self, fingerprint: str, checks: Sequence[str]) -> tuple[Seen, ...]:
        none: set[int] = set()
        broken = none.union(*(self._failed.get((fingerprint, c), none) for c in checks))
        works = none.union(*(self._works.get(c, none) for c in checks))
        works = works.difference(broken, *(self._else.get(c, none) for c in checks))
        return tuple(self._seen[place in broken][place] for place in sorted(broken | works))


def rules_for(seen: Sequence[Seen]) -> tuple[Rule, ...]:
    """The smallest rules: all those over the fewest axes that nothing contradicts.

    Where every rule is contradicted, the one that is least. None where nothing failed or, as
    no rule could then be wrong, nothing works.
    """
    broken = [one for one in seen if one.broken]
    works = [one for one in seen if not one.broken]
    if not broken or not works:
        return ()
    spans = {axis: _span(axis, broken) for axis in AXES}
    within = {axis: _within(axis, spans[axis], works) for axis in AXES}
    best: list[tuple[int, tuple[str, ...]]] = []
    for size in range(1, MOST_AXES + 1):
        made = [
            (len(set.intersection(*(within[axis] for axis in axes))), axes)
            for axes in itertools.combinations(AXES, size)
        ]
        clean = [axes for contradicted, axes in made if not contradicted]
        if clean:
            return tuple(_rule(axes, spans, within, broken, works) for axes in clean)
        best += made
    _, axes = min(best, key=lambda one: (one[0], len(one[1])))
    return (_rule(axes, spans, within, broken, works),)


def _span(axis: str, broken: Sequence[Seen]) -> tuple[str, str]:
    """The oldest and the newest version that was seen to fail."""
    versions = {one.pins[axis] for one in broken}
    return min(versions, key=parsed), max(versions, key=parsed)


def _within(axis: str, span: tuple[str, str], works: Sequence[Seen]) -> set[int]:
    """Which of the cells that work have a version within the span."""
    versions = {one.pins[axis] for one in works}
    hit = {version for version in versions if inside(version, *span)}
    return {place for place, one in enumerate(works) if one.pins[axis] in hit}


def _rule(
    axes: Sequence[str],
    spans: Mapping[str, tuple[str, str]],
    within: Mapping[str, set[int]],
    broken: Sequence[Seen],
    works: Sequence[Seen],
) -> Rule:
    mine = {axis: spans[axis] for axis in axes}
    bounds = tuple(
        Bound(axis=axis, low=low, high=high, **_neighbours(axis, mine, within, works))
        for axis, (low, high) in mine.items()
    )
    contradicted = set.intersection(*(within[axis] for axis in axes))
    return Rule(
        bounds=bounds,
        support=tuple(one.cell for one in broken),
        contradicted=tuple(sorted(works[place].cell for place in contradicted)),
    )


def _neighbours(
    axis: str,
    spans: Mapping[str, tuple[str, str]],
    within: Mapping[str, set[int]],
    works: Sequence[Seen],
) -> dict[str, str | None]:
    """The nearest versions of an axis that work, the others being within their spans."""
    others = [within[a] for a in spans if a != axis]
    places = set.intersection(*others) if others else range(len(works))
    beside = {works[place].pins[axis] for place in places}
    low, high = map(parsed, spans[axis])
    return {
        "below": max((v for v in beside if parsed(v) < low), key=parsed, default=None),
        "above": min((v for v in beside if parsed(v) > high), key=parsed, default=None),
    }


def next_cell(rules: Sequence[Rule], cells: Iterable[Cell], tested: Iterable[str]) -> str | None:
    """The untested cell that would tell most.

    Where several rules fit: the cell on which they are most divided. Where one does: the cell
    between a version that fails and its neighbour that works, nearest to the middle.
    """
    known = set(tested)
    untested = [cell for cell in cells if cell.name not in known]
    if len(rules) > 1:
        half = len(rules) / 2

        def divided(cell: Cell) -> float:
            return abs(sum(rule.holds(cell.pins) for rule in rules) - half)

        telling = [c for c in untested if 0 < sum(r.holds(c.pins) for r in rules) < len(rules)]
        return min(telling, key=lambda c: (divided(c), c.name)).name if telling else None
    for rule in rules:
        for bound in rule.bounds:
            between = _between(bound, rule, untested)
            if between:
                return between[len(between) // 2].name
    return None


def _between(bound: Bound, rule: Rule, untested: Sequence[Cell]) -> list[Cell]:
    """Untested cells strictly between what fails and what works along one bound, sorted."""
    others = [b for b in rule.bounds if b.axis != bound.axis]
    gaps = [(bound.below, bound.low), (bound.high, bound.above)]
    found = [
        cell
        for cell in untested
        for low, high in gaps
        if low
        and high
        and parsed(low) < parsed(cell.pins[bound.axis]) < parsed(high)
        and all(inside(cell.pins[b.axis], b.low, b.high) for b in others)
    ]
    return sorted(found, key=lambda c: (parsed(c.pins[bound.axis]), c.name))


def explain(found: Sequence[Evidence], cells: Sequence[Cell]) -> tuple[Explained, ...]:
    """Every failure over all cells of one device class, the one seen in most cells first."""
    tested = {evidence.cell for evidence in found}
    untested = [cell for cell in cells if cell.name not in tested]
    answers = _Answers(found)
    made = []
    for fingerprint, checks in groups(found).items():
        seen = answers.observations(fingerprint, checks)
        rules = rules_for(seen)
        made.append(
            Explained(
                fingerprint=fingerprint,
                checks=checks,
                seen=seen,
                rules=rules,
                next_cell=next_cell(rules, untested, ()),
            )
        )
    return tuple(sorted(made, key=lambda e: (-sum(s.broken for s in e.seen), e.fingerprint)))


def lines(one: Explained) -> list[str]:
    """What is known of a failure's versions, in words."""
    broken = sum(seen.broken for seen in one.seen)
    works = len(one.seen) - broken
    if not one.rules:
        return [f"fails in {broken} cells, and no cell shows it working: no rule can be stated"]
    said = []
    for rule in one.rules:
        against = f"; contradicted by {', '.join(rule.contradicted)}" if rule.contradicted else ""
        edges = "; ".join(f"{bound.axis}: {bound.edges()}" for bound in rule.bounds)
        said.append(f"{rule.text()} ({broken} cells fail, {works} work{against}; {edges})")
    if len(one.rules) > 1:
        said.append("these cannot be told apart by what was tested")
    if one.next_cell:
        said.append(f"what would tell most: nox -s {one.next_cell}")
    return said
