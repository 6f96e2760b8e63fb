"""Stage evidence → rules: over which versions does a failure happen, as far as was tested. Pure.

For each fingerprint: the cells in which it was seen, those in which a check works that always
fails so where it fails, and what the other cells say. `rules` makes boxes of them.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mcore_compat.analysis import suspects
from mcore_compat.analysis.next_cell import UntestedCells, next_cell
from mcore_compat.analysis.rules import (
    FAILS,
    NO_CHECKS,
    WORKS,
    CellGrid,
    CellSighting,
    FailureState,
    Rule,
    alone,
    bits,
    boxes,
    places,
    rivals,
    wider,
)
from mcore_compat.core.cells import AXES, format_name, has_further, is_version, parse_name, parsed
from mcore_compat.core.outcomes import FAILURES
from mcore_compat.results.evidence import Evidence

MOST_PARTS = 3
"""Checks of one failure that fall apart into more groups than these are not told apart."""

SHOWN = 3
"""Checks that are named of a part; the others are counted."""

OTHERWISE = FailureState.OTHERWISE

WORKS_WITH = FailureState.WORKS_WITH

_AFTER_WORKS = (
    WORKS_WITH,
    OTHERWISE,
    FailureState.BLOCKED,
    FailureState.NEEDS_GPU,
    FailureState.UNSUPPORTED,
)
"""What a cell's checks say of a failure where they neither fail so nor work, in this order."""

_STATES = {state.value: state for state in FailureState}
"""What the outcome of a cell without checks, or of a check that did not end so, says of a failure;
one that has no word of its own: that it fails otherwise."""


@dataclass(frozen=True, kw_only=True)
class Explained:
    """A failure over all cells. `seen` are those that fail so and those in which the same checks
    work. `rules` about the same checks are equally small and cannot be told apart by what was
    tested; `wider` ones are not ruled out, but hold more cells that fail otherwise. `next_cell` is
    the untested cell that would tell most, None where none would.

    `suspects`: packages off the axes that the failure points at. `alike`: those that it does not
    point at, and whose versions alone tell what fails from what works just as well."""

    fingerprint: str
    checks: tuple[str, ...]
    seen: tuple[CellSighting, ...]
    rules: tuple[Rule, ...]
    wider: tuple[Rule, ...] = ()
    next_cell: str | None = None
    suspects: tuple[str, ...] = ()
    alike: tuple[str, ...] = ()

    @property
    def undecided(self) -> bool:
        """Whether the failure points at a package off the axes, and what was tested does not tell
        whether that decides or an axis: nobody is to be told that it is his."""
        of_pin = [bool(set(rule.axes) & set(self.suspects)) for rule in self.rules]
        return bool(self.suspects) and not (of_pin and all(of_pin))

    def doubt(self) -> str:
        """What is not known where it is `undecided`."""
        names = ", ".join(self.suspects)
        return (
            f"it points at {names}: what was tested does not tell whether that or an axis decides"
        )

    @property
    def broken(self) -> int:
        """In how many cells it was seen."""
        return sum(cell.broken for cell in self.seen)

    def rivals(self) -> tuple[tuple[Rule, ...], ...]:
        """The rules that cannot be told apart, together."""
        return rivals(self.rules)

    def attributed(self) -> tuple[str, ...]:
        """The package, or the pair, whose version decides whether it fails so or works; several
        where that is not known. Axes that only keep out what fails otherwise decide nothing."""
        every = dict.fromkeys(rule.axes for rule in (*self.rules, *self.wider))
        fewest = [axes for axes in every if not any(set(other) < set(axes) for other in every)]
        return tuple(" with ".join(axes) for axes in fewest)


def groups(evidence: Iterable[Evidence]) -> dict[str, tuple[str, ...]]:
    """By fingerprint: the checks that failed with it anywhere. Sorted."""
    checks: dict[str, set[str]] = {}
    for e in evidence:
        for check in e.checks:
            if check.outcome in FAILURES and check.failure:
                checks.setdefault(check.failure.fingerprint, set()).add(check.check)
    return {fingerprint: tuple(sorted(checks[fingerprint])) for fingerprint in sorted(checks)}


class _CellSets:
    """All evidence by check: a matrix of thousands of cells is asked once for each failure."""

    def __init__(self, evidence: Iterable[Evidence]) -> None:
        order = sorted(evidence, key=lambda e: e.cell)
        self.grid = CellGrid([(e.cell, {**_others(e), **e.pins}) for e in order])
        self._packages = sorted({name for e in order for name in _others(e)})
        self._failures = {
            (c.failure.fingerprint, e.cell): suspects.suspects(c.failure, e)
            for e in order
            for c in e.checks
            if c.failure and c.outcome in FAILURES
        }
        cells: dict[tuple[str, ...], list[int]] = {}
        for place, e in enumerate(order):
            stopped = _STATES.get(e.outcome.value)
            if not e.checks and stopped in NO_CHECKS:
                cells.setdefault((stopped,), []).append(place)
            for c in e.checks:
                if c.failure and c.outcome in FAILURES:
                    cells.setdefault((c.failure.fingerprint, c.check), []).append(place)
                state = _STATES.get(c.outcome.value, OTHERWISE)
                cells.setdefault((state, c.check), []).append(place)
        self._cells = {key: bits(there, len(order)) for key, there in cells.items()}
        """By what they say: a cell's state, a check's, or the fingerprint of its failure."""

    def explained(
        self, fingerprint: str, checks: Sequence[str], untested: UntestedCells | None = None
    ) -> Explained:
        """One failure, with the rules of all of its checks; where those would hold cells in which
        they work, and the checks do not fail together, with the rules of each part."""
        failed = {check: self._cells.get((fingerprint, check), 0) for check in checks}
        states = self._states(failed, _union(failed.values()))
        named = self._named(fingerprint)
        rules = boxes(self.grid, states, suspects=named)
        if any(rule.contradicted for rule in rules):
            rules = self._parts(failed) or rules
        seen = self.grid.states({state: states[state] for state in (FAILS, WORKS)})
        broken = [cell for cell in seen if cell.broken]
        best = _telling(rules, named, seen) if named else None
        if untested and not best:
            best = next_cell(rules, broken, functools.partial(self.grid.asked, states), untested)
        return Explained(
            fingerprint=fingerprint,
            checks=tuple(checks),
            seen=seen,
            rules=rules,
            wider=() if named and rules else wider(self.grid, states),
            next_cell=best,
            suspects=named,
            alike=() if named else alone(self.grid, states, self._packages),
        )

    def _named(self, fingerprint: str) -> tuple[str, ...]:
        """The packages off the axes that a failure points at, wherever it was seen."""
        rows = (names for (key, _), names in self._failures.items() if key == fingerprint)
        return tuple(dict.fromkeys(name for names in rows for name in names))

    def _any(self, state: FailureState, checks: Iterable[str]) -> int:
        """Where at least one of the checks says so."""
        return _union(self._cells.get((state, check), 0) for check in checks)

    def _always(self, failed: Mapping[str, int], broken: int) -> list[str]:
        """The checks that fail so in each of the broken cells in which they could be asked. Where
        one of these works the failure does not happen, whatever the other checks say."""
        return [
            check
            for check, cells in failed.items()
            if not broken
            & ~cells
            & _union(self._any(state, [check]) for state in (WORKS, WORKS_WITH, OTHERWISE))
        ]

    def _states(self, failed: Mapping[str, int], broken: int) -> dict[FailureState, int]:
        """What each cell says of the failure in the cells `broken`: of what its checks say, that
        which tells most. One that fails so and is not among `broken` says nothing."""
        always = self._always(failed, broken)
        asked: Collection[str] = always or failed
        works = self._any(WORKS, asked)
        if not always:  # none stands for the others: all that could be asked must work
            not_all = (WORKS_WITH, OTHERWISE, FailureState.BLOCKED)
            works &= ~_union(self._any(state, asked) for state in not_all)
        rest = {state: self._any(state, asked) for state in _AFTER_WORKS}
        stopped = {state: self._cells.get((state,), 0) for state in NO_CHECKS}
        states = {FAILS: broken, WORKS: works, **rest, **stopped}
        before = _union(failed.values()) & ~broken
        for state, cells in states.items():
            states[state] = cells & ~before
            before |= cells
        return states

    def _parts(self, failed: Mapping[str, int]) -> tuple[Rule, ...]:
        """Rules for the cells in which the same checks fail so, those with most cells first. Empty
        where that makes no rules without contradictions."""
        always = self._always(failed, _union(failed.values()))
        parts: dict[tuple[str, ...], int] = {}
        for place in places(_union(failed.values())):
            cell = 1 << place
            loose = (c for c, cells in failed.items() if c not in always and cells & cell)
            part = tuple(loose) or tuple(always)
            parts[part] = parts.get(part, 0) | cell
        if not 1 < len(parts) <= MOST_PARTS:
            return ()
        rules: list[Rule] = []
        for checks, broken in sorted(parts.items(), key=lambda p: (-p[1].bit_count(), p[0])):
            states = self._states({c: failed[c] for c in checks}, broken)
            of_part = boxes(self.grid, states, checks)
            if not of_part or any(rule.contradicted for rule in of_part):
                return ()
            rules += of_part
        return tuple(rules)


def _others(e: Evidence) -> dict[str, str]:
    """The packages off the axes that a cell had, in versions that can be compared."""
    return {
        name: version
        for name, version in e.installed.items()
        if suspects.may_be(name) and is_version(version)
    }


def _telling(
    rules: Sequence[Rule], named: Sequence[str], seen: Sequence[CellSighting]
) -> str | None:
    """The cell that tells whether a package off the axes decides: one that fails, with the release
    of it that is nearest among those with which the checks work. None where it was run."""
    of_pin = [bool(set(rule.axes) & set(named)) for rule in rules]
    if of_pin and all(of_pin):
        return None
    tested = {cell.cell for cell in seen}
    order = sorted(
        (cell for cell in seen if cell.broken),
        key=lambda cell: [parsed(cell.pins[axis]) for axis in AXES],
        reverse=True,
    )
    for cell in order:
        for name in named:
            have = cell.pins.get(name)
            works = {c.pins[name] for c in seen if not c.broken and name in c.pins} - {have}
            older = [v for v in works if have and parsed(v) < parsed(have)]
            asked = parse_name(cell.cell)
            if asked is None or not (works and have) or has_further(cell.cell):
                continue
            version = max(older, key=parsed) if older else min(works, key=parsed)
            moved = format_name(replace(asked, further=(f"{name}=={version}",)))
            if moved not in tested:
                return moved
    return None


def _union(sets: Iterable[int]) -> int:
    return functools.reduce(operator.or_, sets, 0)


def of_failure(
    evidence: Iterable[Evidence], fingerprint: str, untested: UntestedCells | None = None
) -> Explained:
    """One failure over all cells, as `explain` has it; KeyError where nothing failed so."""
    every = tuple(evidence)
    return _CellSets(every).explained(fingerprint, groups(every)[fingerprint], untested)


def explain(
    evidence: Sequence[Evidence], untested: UntestedCells | None = None
) -> tuple[Explained, ...]:
    """Every failure over all cells of one device class, the one seen in most cells first. With
    `untested`, each with the cell of these that would tell most of it."""
    sets = _CellSets(evidence)
    failures = [sets.explained(key, checks, untested) for key, checks in groups(evidence).items()]
    return tuple(sorted(failures, key=lambda e: (-e.broken, e.fingerprint)))


def lines(failure: Explained) -> list[str]:
    """What is known of a failure's versions, in words."""
    if not failure.rules:
        count = f"fails in {failure.broken} cells"
        return [f"{count}, and no cell shows it working: no rule can be stated"]
    rows = []
    for fit in failure.rivals():
        rows += [f"{_where(fit[0])}{_line(rule)}" for rule in fit]
        if len(fit) > 1:
            rows.append("these cannot be told apart by what was tested")
    if failure.undecided:
        rows.append(failure.doubt())
    if failure.alike:
        rows.append(f"what these alone tell apart as well, and nothing points at: {_pins(failure)}")
    if failure.wider:
        texts = (f"{rule.text()} ({rule.others_text()})" for rule in failure.wider)
        rows.append(f"not ruled out, as what fails otherwise may hide it: {'; or '.join(texts)}")
    if failure.next_cell:
        rows.append(f"what would tell most: nox -s {failure.next_cell}")
    return rows


def _pins(failure: Explained) -> str:
    more = f" and {len(failure.alike) - SHOWN} more" if len(failure.alike) > SHOWN else ""
    return f"{', '.join(failure.alike[:SHOWN])}{more}"


def _where(rule: Rule) -> str:
    """Of which checks a rule is, where not of all."""
    if not rule.checks:
        return ""
    more = f" and {len(rule.checks) - SHOWN} more" if len(rule.checks) > SHOWN else ""
    return f"where {', '.join(rule.checks[:SHOWN])}{more} fail so: "


def _line(rule: Rule) -> str:
    others, against = rule.others_text(), ", ".join(rule.contradicted)
    parts = [f"{len(rule.support)} cells fail, {rule.works} work"]
    parts += [f"of other cells within it {others}"] if others else []
    parts += [f"contradicted by {against}"] if against else []
    parts += [f"{bound.axis}: {bound.edges()}" for bound in rule.bounds]
    return f"{rule.text()} ({'; '.join(parts)})"
