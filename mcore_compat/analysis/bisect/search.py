"""Stage line → answer: the state of a check at each point, and where along the line it changes.

Known results are used first; a point runs only if the answer needs it. Pure, except for `run`,
which the caller passes.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from mcore_compat.analysis.bisect import halving
from mcore_compat.analysis.bisect.halving import ChangePoint, CheckState
from mcore_compat.analysis.bisect.release_line import ReleaseLine
from mcore_compat.base.errors import UsageError, nearest
from mcore_compat.core.cells import Cell
from mcore_compat.core.outcomes import FAILURES, CheckOutcome
from mcore_compat.results.result import CheckResult, Result

NOT_RUN = "not run"
"""The outcome of a point that was needed but not run, because nothing may run."""


@dataclass(frozen=True, kw_only=True)
class PointState:
    """The state of a point. `outcome`: of the check or the cell; `why`: the reason, if it is
    neither good nor bad; `source`: where the outcome comes from; `failed`: the first check that
    failed, with its result."""

    state: CheckState
    outcome: str
    source: str
    why: str = ""
    failed: tuple[CheckResult, Result] | None = None


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The answer, the known states by point, and the cells that were run for it, in order."""

    answer: ChangePoint
    seen: Mapping[int, PointState]
    ran: tuple[str, ...]

    @property
    def unrun(self) -> frozenset[int]:
        return frozenset(p for p, point in self.seen.items() if point.outcome == NOT_RUN)


def matching(pattern: str, checks: Iterable[str]) -> tuple[str, ...]:
    """Return the checks that match names or globs, separated by commas. Sorted. `*` and `?` are the
    only wildcards, because checks' names have brackets."""
    every, found = set(checks), set[str]()
    for one in pattern.split(","):
        parts = (re.escape(part) for part in re.split(r"([*?])", one))
        words = "".join({r"\*": ".*", r"\?": "."}.get(part, part) for part in parts)
        found |= {c for c in every if c == one or re.fullmatch(words, c)}
    return tuple(sorted(found))


def known_check(pattern: str, checks: Iterable[str]) -> None:
    """Refuse a name or glob that matches no check.

    Raises:
        UsageError: it matches none; names the nearest.
    """
    names = sorted(set(checks))
    if names and not matching(pattern, names):
        raise UsageError(f'--check: no such check "{pattern}"{nearest(pattern, names)}')


def seen_in(
    result: Result, pattern: str, cell: Cell, source: str, *, defaults: bool = False
) -> PointState:
    """Return the state of the matching checks in a result: good if all that apply work, bad if one
    failed, with `defaults` also if one works only under a condition."""

    def point(
        state: CheckState, outcome: Enum, why: str = "", failed: CheckResult | None = None
    ) -> PointState:
        return PointState(
            state=state,
            outcome=outcome.value,
            source=source,
            why=next(iter(why.strip().splitlines()), ""),
            failed=(failed, result) if failed else None,
        )

    other = [axis for axis, version in cell.pins.items() if result.pins.get(axis) != version]
    if other:
        versions = ", ".join(f"{axis} {result.pins.get(axis)}" for axis in other)
        why = f"the result is of another combination: {versions}"
        return point(CheckState.SILENT, result.outcome, why)
    names = set(matching(pattern, (c.check for c in result.checks)))
    checks = [c for c in result.checks if c.check in names]
    if not checks:
        why = result.reason.message if result.reason else "the result has no such check"
        return point(CheckState.SILENT, result.outcome, why)
    bad = {*FAILURES, CheckOutcome.WORKS_WITH} if defaults else FAILURES
    failed = next((c for c in checks if c.outcome in bad), None)
    if failed:
        return point(CheckState.BAD, failed.outcome, failed=failed)
    by_outcome = {c.outcome: c for c in reversed(checks)}
    blocked = by_outcome.get(CheckOutcome.BLOCKED)
    holds = next(
        (o for o in (CheckOutcome.WORKS_WITH, CheckOutcome.WORKS) if o in by_outcome), None
    )
    if holds and not blocked:
        return point(CheckState.GOOD, holds)
    silent = blocked or checks[0]
    return point(CheckState.SILENT, silent.outcome, silent.reason or "")


def refused(line: ReleaseLine) -> dict[int, PointState]:
    """Return the points that cannot be installed according to metadata, so that they need no
    run."""
    return {
        place: PointState(
            state=CheckState.SILENT, outcome="unresolvable", source="metadata", why=point.refused
        )
        for place, point in enumerate(line.points)
        if point.refused
    }


def search(
    line: ReleaseLine,
    check: str,
    known: Mapping[int, PointState],
    run: Callable[[int], PointState] | None,
) -> SearchResult:
    """Find where a check changes along a line. `run` runs a point; None: use known results only.

    It runs the two ends if they have no result, at most ceil(log2(n)) of n points that give an
    answer, and each point that gives none at most once.

    Raises:
        UsageError: the check does not work at the good end, or does not fail at the bad one.
    """
    seen = dict(known)
    ran: list[str] = []

    def ask(place: int) -> CheckState:
        if run is None:
            seen[place] = PointState(state=CheckState.SILENT, outcome=NOT_RUN, source="")
        else:
            ran.append(line.points[place].cell.name)
            seen[place] = run(place)
        return _oriented(seen[place].state, line)

    verify_known(line, check, seen)
    for end in line.ends:
        if end not in seen:
            ask(end)
            verify_known(line, check, seen)
    states = {place: _oriented(point.state, line) for place, point in seen.items()}
    answer = halving.bisect(len(line.points), ask, states)
    return SearchResult(answer=answer, seen=dict(sorted(seen.items())), ran=tuple(ran))


def _oriented(state: CheckState, line: ReleaseLine) -> CheckState:
    """Return the state for `halving`, for which the first point is the good one."""
    turned = {CheckState.GOOD: CheckState.BAD, CheckState.BAD: CheckState.GOOD}
    return turned.get(state, state) if line.fixed else state


def verify_known(line: ReleaseLine, check: str, known: Mapping[int, PointState]) -> None:
    """Check that known ends are as stated: the check works at the good one and fails at the bad
    one.

    Raises:
        UsageError: one is not.
    """
    good, bad = line.ends
    for end, other, wanted, option in (
        (good, bad, CheckState.GOOD, "--good"),
        (bad, good, CheckState.BAD, "--bad"),
    ):
        point, name = known.get(end), line.points[end].cell.name
        if point is None or point.state is wanted:
            continue
        if point.outcome == NOT_RUN:
            why = f"no result of {check} that is up to date; run it: nox -s {name}"
        elif point.state is CheckState.SILENT:
            reason = f" ({point.why})" if point.why else ""
            hint = ": bisect what blocks it" if point.outcome == CheckOutcome.BLOCKED else ""
            why = f"{check} is {point.outcome} there{reason}, neither good nor bad{hint}"
        else:
            why = f"{check} works there"
            if point.failed:
                why = f"{point.failed[0].check} is {point.outcome} there"
            if wanted is CheckState.BAD and point.outcome == CheckOutcome.WORKS_WITH:
                why += " under a condition, which --defaults counts as failing"
            elif wanted is CheckState.BAD and line.notes:
                why += f" ({line.notes[0]}): another axis decides, try another --axis"
            if other in known and known[other].state is wanted:
                why += "; are --good and --bad the wrong way round?"
        raise UsageError(f"{option} {name}: {why}")


def most_runs(
    line: ReleaseLine, known: Mapping[int, PointState]
) -> tuple[list[int], list[int], int]:
    """Return `(ends to run, points that may run, the most of these that will run)`.

    Each point that gives no answer costs one more run.
    """
    ends = [end for end in line.ends if end not in known]
    states = {0: CheckState.GOOD, len(line.points) - 1: CheckState.BAD}
    states |= {place: _oriented(point.state, line) for place, point in known.items()}
    low, high = halving.nearest(states, len(line.points))
    open_ = [place for place in range(low + 1, high) if place not in known]
    return ends, open_, math.ceil(math.log2(len(open_) + 1))


def first_bad(line: ReleaseLine, result: SearchResult) -> int:
    """Return the bad one of the two points between which the check changes."""
    return result.answer.last if line.fixed else result.answer.first


def changes(line: ReleaseLine, result: SearchResult) -> list[tuple[str, str]]:
    """Return every known change, as the versions on its two sides, oldest first."""
    seen = result.seen
    places = [place for place, point in seen.items() if point.state is not CheckState.SILENT]
    return [
        (line.points[low].version, line.points[high].version)
        for low, high in itertools.pairwise(places)
        if seen[low].state is not seen[high].state
    ]


def versions(line: ReleaseLine) -> Sequence[str]:
    return [point.version for point in line.points]
