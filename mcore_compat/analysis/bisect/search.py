"""Stage line → answer: what each point says of a check, and where along the line that changes.

What is known is looked at first; a point is run only where the answer needs it. Pure but for `run`,
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
from mcore_compat.results.evidence import CheckResult, Evidence

NOT_RUN = "not run"
"""The outcome of a point that would have to be run, and was not to be."""


@dataclass(frozen=True, kw_only=True)
class PointState:
    """What a point says. `outcome`: in the words of checks and cells; `why`: where it is neither
    good nor bad; `source`: where that comes from; `failed`: the first check that failed, and the
    evidence of that."""

    state: CheckState
    outcome: str
    source: str
    why: str = ""
    failed: tuple[CheckResult, Evidence] | None = None


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The answer, what was seen by point, and the cells that were run for it, in order."""

    answer: ChangePoint
    seen: Mapping[int, PointState]
    ran: tuple[str, ...]

    @property
    def unrun(self) -> frozenset[int]:
        return frozenset(p for p, point in self.seen.items() if point.outcome == NOT_RUN)


def matching(pattern: str, checks: Iterable[str]) -> tuple[str, ...]:
    """The checks of names or globs, sorted; several are separated by commas. `*` and `?` are the
    only wildcards: brackets stand in checks' names."""
    every, found = set(checks), set[str]()
    for one in pattern.split(","):
        parts = (re.escape(part) for part in re.split(r"([*?])", one))
        words = "".join({r"\*": ".*", r"\?": "."}.get(part, part) for part in parts)
        found |= {c for c in every if c == one or re.fullmatch(words, c)}
    return tuple(sorted(found))


def known_check(pattern: str, checks: Iterable[str]) -> None:
    """See that a check, or a glob of one, names anything.

    Raises:
        UsageError: it does not; names the nearest.
    """
    names = sorted(set(checks))
    if names and not matching(pattern, names):
        raise UsageError(f'--check: no check is called "{pattern}"{nearest(pattern, names)}')


def seen_in(
    evidence: Evidence, pattern: str, cell: Cell, source: str, *, defaults: bool = False
) -> PointState:
    """What evidence says of a check: good where all that apply work, bad where one failed, with
    `defaults` also where one works only under a condition."""

    def point(
        state: CheckState, outcome: Enum, why: str = "", failed: CheckResult | None = None
    ) -> PointState:
        return PointState(
            state=state,
            outcome=outcome.value,
            source=source,
            why=next(iter(why.strip().splitlines()), ""),
            failed=(failed, evidence) if failed else None,
        )

    other = [axis for axis, version in cell.pins.items() if evidence.pins.get(axis) != version]
    if other:
        versions = ", ".join(f"{axis} {evidence.pins.get(axis)}" for axis in other)
        why = f"it is another combination here: {versions}"
        return point(CheckState.SILENT, evidence.outcome, why)
    names = set(matching(pattern, (c.check for c in evidence.checks)))
    checks = [c for c in evidence.checks if c.check in names]
    if not checks:
        why = evidence.reason.message if evidence.reason else "the cell was not asked this"
        return point(CheckState.SILENT, evidence.outcome, why)
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
    """The points that cannot be installed, as metadata says: nothing has to be run for that."""
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
    """Where along a line a check changes. `run` runs a point; None: what is known must do.

    Beside what the two ends cost where nothing is known of them, at most ceil(log2(n)) of n
    points are run that answer, and each that does not at most once.

    Raises:
        UsageError: an end is not what it was said to be.
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
    """As the core sees it, to which the first point is the good one."""
    turned = {CheckState.GOOD: CheckState.BAD, CheckState.BAD: CheckState.GOOD}
    return turned.get(state, state) if line.fixed else state


def verify_known(line: ReleaseLine, check: str, known: Mapping[int, PointState]) -> None:
    """See that the ends of which something is known are what they were said to be.

    Raises:
        UsageError: one is not, in one line.
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
            why = f"no fresh evidence says {check}; run it: nox -s {name}"
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
                why += f" ({line.notes[0]}): what is held decides, try another --axis"
            if other in known and known[other].state is wanted:
                why += "; are --good and --bad the wrong way round?"
        raise UsageError(f"{option} {name}: {why}")


def most_runs(
    line: ReleaseLine, known: Mapping[int, PointState]
) -> tuple[list[int], list[int], int]:
    """`(ends to run, points that may be asked, how many of those at most)` where all can be asked.

    Each point that turns out to be silent costs one more.
    """
    ends = [end for end in line.ends if end not in known]
    states = {0: CheckState.GOOD, len(line.points) - 1: CheckState.BAD}
    states |= {place: _oriented(point.state, line) for place, point in known.items()}
    low, high = halving.nearest(states, len(line.points))
    open_ = [place for place in range(low + 1, high) if place not in known]
    return ends, open_, math.ceil(math.log2(len(open_) + 1))


def first_bad(line: ReleaseLine, result: SearchResult) -> int:
    """The bad one of the two points between which the check changes."""
    return result.answer.last if line.fixed else result.answer.first


def changes(line: ReleaseLine, result: SearchResult) -> list[tuple[str, str]]:
    """Every change that was seen, as the versions on its two sides, oldest first."""
    seen = result.seen
    places = [place for place, point in seen.items() if point.state is not CheckState.SILENT]
    return [
        (line.points[low].version, line.points[high].version)
        for low, high in itertools.pairwise(places)
        if seen[low].state is not seen[high].state
    ]


def versions(line: ReleaseLine) -> Sequence[str]:
    return [point.version for point in line.points]
