"""Stage results → rules: with which versions a failure happens, as far as was tested. Pure.

For each fingerprint it sorts the cells by their state: the failure happens, the checks that always
fail with it work, or something else. `rules` finds the smallest version boxes for these sets.
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
from mcore_compat.results.result import CheckEndings, Failure, Result

MOST_PARTS = 3
"""If the checks of one failure form more groups than these, the groups get no rules."""

SHOWN = 3
"""The number of checks that a line names; it counts the others."""

OTHERWISE = FailureState.OTHERWISE

WORKS_WITH = FailureState.WORKS_WITH

_AFTER_WORKS = (
    WORKS_WITH,
    OTHERWISE,
    FailureState.BLOCKED,
    FailureState.NEEDS_GPU,
    FailureState.UNSUPPORTED,
)
"""The states of a cell whose checks neither fail with the failure nor work, most telling first."""

_STATES = {state.value: state for state in FailureState}
"""The state by the outcome of a check, or of a cell without checks; any other outcome means that it
fails otherwise."""


@dataclass(frozen=True, kw_only=True)
class Explained:
    """A failure over all cells.

    `seen`: the cells in which it happens, and those in which the same checks work. `rules`: equally
    small rules; the tested cells do not show which of those about the same checks holds. `wider`:
    rules that are not ruled out, but hold more cells that fail otherwise. `next_cell`: the untested
    cell that would narrow this down most; None if there is none. `suspects`: packages, other than
    axes, that the failure points at. `alike`: packages that it does not point at, although their
    versions alone separate the cells that fail from those that work.
    """

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
        """Whether the failure points at a package, not an axis, and the tested cells do not show
        whether that package or an axis decides. Then no maintainer is named for it."""
        of_pin = [bool(set(rule.axes) & set(self.suspects)) for rule in self.rules]
        return bool(self.suspects) and not (of_pin and all(of_pin))

    def doubt(self) -> str:
        """Return the line about a failure that is `undecided`."""
        names = ", ".join(self.suspects)
        return f"it points at {names}: the tested cells do not show whether that or an axis decides"

    @property
    def broken(self) -> int:
        """The number of cells in which it happens."""
        return sum(cell.broken for cell in self.seen)

    def rivals(self) -> tuple[tuple[Rule, ...], ...]:
        """The rules, grouped by the checks that they are about."""
        return rivals(self.rules)

    def attributed(self) -> tuple[str, ...]:
        """Return the package, or the combination of packages, whose version decides whether the
        failure happens; several if the tested cells do not show which. An axis that only excludes
        cells that fail otherwise decides nothing."""
        every = dict.fromkeys(rule.axes for rule in (*self.rules, *self.wider))
        fewest = [axes for axes in every if not any(set(other) < set(axes) for other in every)]
        return tuple(" with ".join(axes) for axes in fewest)


def groups(results: Iterable[Result]) -> dict[str, tuple[str, ...]]:
    """Return, by fingerprint, the checks that failed with it in any cell. Sorted."""
    checks: dict[str, set[str]] = {}
    for endings in {e.endings for e in results}:
        for check, failure in _failures(endings):
            checks.setdefault(failure.fingerprint, set()).add(check)
    return {fingerprint: tuple(sorted(checks[fingerprint])) for fingerprint in sorted(checks)}


@functools.cache
def _failures(endings: CheckEndings) -> tuple[tuple[str, Failure], ...]:
    """Return the checks that failed, and how."""
    broken = (c for c in endings.checks if c.outcome in FAILURES)
    return tuple((c.check, c.failure) for c in broken if c.failure)


class _CellSets:
    """All results as sets of cells, for speed: each failure needs thousands of cells."""

    def __init__(self, results: Iterable[Result]) -> None:
        order = sorted(results, key=lambda e: e.cell)
        others = [_others(e) for e in order]
        self.grid = CellGrid(
            [(e.cell, {**more, **e.pins}) for e, more in zip(order, others, strict=True)]
        )
        self._packages = sorted({name for more in others for name in more})
        self._suspects: dict[str, dict[str, None]] = {}
        """By fingerprint: the packages that the failure points at in any cell."""
        self._cells: dict[tuple[str, ...], int] = {}
        stopped: dict[str, list[int]] = {}
        alike: dict[CheckEndings, list[int]] = {}
        for place, e in enumerate(order):
            without = _STATES.get(e.outcome.value)
            if not e.checks and without in NO_CHECKS:
                stopped.setdefault(without, []).append(place)
            alike.setdefault(e.endings, []).append(place)
            if failed := _failures(e.endings):
                installed = suspects.InstalledPackages(e)
                for _, failure in failed:
                    of_failure = self._suspects.setdefault(failure.fingerprint, {})
                    of_failure.update(dict.fromkeys(installed.suspects(failure)))
        for word, there in stopped.items():
            self._cells[word,] = bits(there, len(order))
        for endings, there in alike.items():
            cells = bits(there, len(order))
            states = ((_STATES.get(c.outcome.value, OTHERWISE), c.check) for c in endings.checks)
            failures = ((failure.fingerprint, check) for check, failure in _failures(endings))
            for key in (*states, *failures):
                self._cells[key] = self._cells.get(key, 0) | cells
        """Cells by `(cell's state,)`, `(check's state, check)` or `(fingerprint, check)`."""

    def explained(
        self, fingerprint: str, checks: Sequence[str], untested: UntestedCells | None = None
    ) -> Explained:
        """Return one failure with the rules for all of its checks. If these rules hold cells in
        which the checks work, and the checks do not fail together, return rules for each group of
        checks that do."""
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
        """Return the packages, without the axes, that a failure points at in any cell."""
        return tuple(self._suspects.get(fingerprint, ()))

    def _any(self, state: FailureState, checks: Iterable[str]) -> int:
        """Return the cells in which at least one of the checks has a state."""
        return _union(self._cells.get((state, check), 0) for check in checks)

    def _always(self, failed: Mapping[str, int], broken: int) -> list[str]:
        """Return the checks that fail with it in each of the broken cells in which they could run.
        If one of these works in a cell, the failure does not happen there."""
        return [
            check
            for check, cells in failed.items()
            if not broken
            & ~cells
            & _union(self._any(state, [check]) for state in (WORKS, WORKS_WITH, OTHERWISE))
        ]

    def _states(self, failed: Mapping[str, int], broken: int) -> dict[FailureState, int]:
        """Return the cells by their state, the most telling one of their checks' states. A cell in
        which the failure happens and that is not in `broken` has no state."""
        always = self._always(failed, broken)
        asked: Collection[str] = always or failed
        works = self._any(WORKS, asked)
        if not always:  # no check stands for the others: all that could run must work
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
        """Return rules for each group of cells in which the same checks fail, largest group first;
        empty if any of these rules is contradicted."""
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


def _others(e: Result) -> dict[str, str]:
    """Return version by package, without the axes and without invalid versions."""
    return {
        name: version
        for name, version in e.installed.items()
        if suspects.may_be(name) and is_version(version)
    }


def _telling(
    rules: Sequence[Rule], named: Sequence[str], seen: Sequence[CellSighting]
) -> str | None:
    """Return the untested cell that would show whether a suspected package decides: a cell that
    fails, with the nearest release of the package among those with which the checks work."""
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
    results: Iterable[Result], fingerprint: str, untested: UntestedCells | None = None
) -> Explained:
    """Return one failure over all cells, as `explain` does; KeyError if it happens nowhere."""
    every = tuple(results)
    return _CellSets(every).explained(fingerprint, groups(every)[fingerprint], untested)


def explain(
    results: Sequence[Result], untested: UntestedCells | None = None
) -> tuple[Explained, ...]:
    """Return every failure over all cells of one device class, the most frequent first; with
    `untested`, each with the cell of these that would narrow it down most."""
    sets = _CellSets(results)
    failures = [sets.explained(key, checks, untested) for key, checks in groups(results).items()]
    return tuple(sorted(failures, key=lambda e: (-e.broken, e.fingerprint)))


def lines(failure: Explained) -> list[str]:
    """Return the lines of text about a failure's versions."""
    if not failure.rules:
        count = f"fails in {failure.broken} cells"
        return [f"{count}, and no cell shows it working: no rule can be stated"]
    rows = []
    for fit in failure.rivals():
        rows += [f"{_where(fit[0])}{_line(rule)}" for rule in fit]
        if len(fit) > 1:
            rows.append("the tested cells do not show which of these holds")
    if failure.undecided:
        rows.append(failure.doubt())
    if failure.alike:
        rows.append(f"separate the cells as well, although not pointed at: {_pins(failure)}")
    if failure.wider:
        texts = (f"{rule.text()} ({rule.others_text()})" for rule in failure.wider)
        rows.append(f"not ruled out, because other failures may hide it: {'; or '.join(texts)}")
    if failure.next_cell:
        rows.append(f"to narrow this down: nox -s {failure.next_cell}")
    return rows


def _pins(failure: Explained) -> str:
    more = f" and {len(failure.alike) - SHOWN} more" if len(failure.alike) > SHOWN else ""
    return f"{', '.join(failure.alike[:SHOWN])}{more}"


def _where(rule: Rule) -> str:
    """Return the words before a rule that is about some of the checks only."""
    if not rule.checks:
        return ""
    more = f" and {len(rule.checks) - SHOWN} more" if len(rule.checks) > SHOWN else ""
    return f"if {', '.join(rule.checks[:SHOWN])}{more} fail with it: "


def _line(rule: Rule) -> str:
    others, against = rule.others_text(), ", ".join(rule.contradicted)
    parts = [f"{len(rule.support)} cells fail, {rule.works} work"]
    parts += [f"other cells within it: {others}"] if others else []
    parts += [f"contradicted by {against}"] if against else []
    parts += [f"{bound.axis}: {bound.edges()}" for bound in rule.bounds]
    return f"{rule.text()} ({'; '.join(parts)})"
