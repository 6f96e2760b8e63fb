"""Which of the version changes between FROM and TO are to blame for a failure, by the results of
the cells in between. Pure, except for a `run` function that tests further cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mcore_compat.analysis.bisect.halving import CheckState
from mcore_compat.analysis.bisect.release_line import by_series, differing
from mcore_compat.base.errors import UsageError
from mcore_compat.core import combinations
from mcore_compat.core.cells import AXES, Cell, Request
from mcore_compat.core.outcomes import FAILURES, HOLDS, CellOutcome
from mcore_compat.results.result import CheckResult, Result
from mcore_compat.upgrade import blame
from mcore_compat.upgrade.blame import BlameReport, Moved
from mcore_compat.upgrade.sides import Side, UpgradeInputs

Run = Callable[[Cell], Result]
"""Tests a cell and returns its result."""


def state_of(result: Result, names: Sequence[str], failed: CheckResult) -> tuple[CheckState, str]:
    """Whether a cell fails in these checks as `failed` did. If it neither fails so nor works, the
    second value says why."""
    if not result.checks:
        reason = f": {' '.join(result.reason.message.split())}" if result.reason else ""
        return CheckState.SILENT, f"{result.outcome.value}{reason}"
    checks = {c.check: c for c in result.checks if c.check in names}.values()
    if any(_alike(c, failed) for c in checks):
        return CheckState.BAD, ""
    other = sorted({c.outcome.value for c in checks if c.outcome not in HOLDS})
    if len(checks) == len(names) and not other:
        return CheckState.GOOD, ""
    otherwise = " for another reason" if any(c.outcome in FAILURES for c in checks) else ""
    return CheckState.SILENT, f"{' and '.join(other) or 'not run'} there{otherwise}"


def _comparable(result: Result, suite: str) -> bool:
    """Whether a result can be compared with TO's: complete, without an infrastructure error, and
    from the same suite."""
    whole = result.complete and result.outcome is not CellOutcome.ERROR
    return whole and (not result.checks or result.suite == suite)


def _alike(check: CheckResult, failed: CheckResult) -> bool:
    causes = [c.failure.fingerprint if c.failure else "" for c in (check, failed)]
    return check.outcome is failed.outcome and causes[0] == causes[1]


class Trial:
    """One failure, and the cells between FROM and TO that show what is to blame for it."""

    def __init__(
        self,
        checks: Sequence[str],
        failed: CheckResult,
        origin: Side,
        target: Side,
        known: UpgradeInputs,
        run: Run | None,
    ) -> None:
        self._checks, self._failed = checks, failed
        self._old, self._new = origin.pins, target.pins
        self._known, self._run = known, run
        suite = target.found.suite if target.found else ""
        # By versions; if two cells have the same, the first by name.
        tested = sorted(known.found, key=lambda e: e.cell, reverse=True)
        self._tested = {
            tuple(e.pins[axis] for axis in AXES): e for e in tested if _comparable(e, suite)
        }
        self._axes = differing(self._old, self._new)
        self._cells: dict[Moved, str] = {Moved(): origin.name, frozenset(self._axes): target.name}
        self._why: dict[Moved, str] = {}
        self._open: dict[Moved, str] = {}
        self._seconds = sum(c.seconds or 0 for c in target.found.checks) if target.found else 0.0

    def report(self, hints: Sequence[Sequence[str]]) -> BlameReport:
        """What is to blame, by the results so far and by those of `run`, if it was given."""
        known = self._all()
        moves = [frozenset(hint) & frozenset(self._axes) for hint in hints]
        search = blame.find(self._axes, self._ask, known, [m for m in moves if m])

        def by_axes(by_moved: Mapping[Moved, str]) -> dict[tuple[str, ...], str]:
            rows = {tuple(a for a in AXES if a in moved): text for moved, text in by_moved.items()}
            return {axes: rows[axes] for axes in sorted(rows, key=lambda a: (len(a), a))}

        complete = search.whole and all(not c.unknown for c in search.culprits)
        return BlameReport(
            blame=search,
            cells=by_axes(self._cells),
            why=by_axes(self._why),
            open=() if complete else tuple(by_axes(self._open).values()),
            seconds=self._seconds,
        )

    def _all(self) -> dict[Moved, CheckState]:
        """The combinations that were tested, and those that cannot be installed."""
        known = {}
        for moved in blame.combinations(self._axes):
            result = self._tested.get(tuple(self._pins(moved).values()))
            state = self._judged(moved, result) if result else self._from_metadata(moved)
            if state is not None:
                known[moved] = state
        return known

    def _pins(self, moved: Moved) -> dict[str, str]:
        """The version of each axis: the new one for `moved`, else the old one."""
        return {axis: (self._new if axis in moved else self._old)[axis] for axis in AXES}

    def _cell(self, moved: Moved) -> Cell:
        """The cell of a combination, with the name to run it by.

        Raises:
            UsageError: a version is not a release, or a series has no default stack.
        """
        mcore, modelopt, te, torch, python = self._pins(moved).values()
        request = Request(mcore=mcore, modelopt=modelopt, te=te, torch=torch, python=python)
        all_ = self._known.all_
        return combinations.cell(by_series(request, all_.releases), all_.matrix, all_.releases)

    def _judged(self, moved: Moved, result: Result) -> CheckState:
        state, why = state_of(result, self._checks, self._failed)
        self._cells[moved] = result.cell
        return self._silent(moved, why) if state is CheckState.SILENT else state

    def _silent(self, moved: Moved, why: str) -> CheckState:
        self._why[moved] = why
        return CheckState.SILENT

    def _from_metadata(self, moved: Moved) -> CheckState | None:
        """`SILENT` if the metadata of the releases says that they cannot be installed together."""
        try:
            cell = self._cell(moved)
            reasons = combinations.violations(cell, self._known.all_.releases)
        except UsageError as error:
            return self._silent(moved, str(error))
        if reasons:
            return self._silent(moved, "; ".join(reasons))
        self._open[moved] = cell.name
        return None

    def _ask(self, moved: Moved) -> CheckState | None:
        if self._run is None:
            return None
        cell = self._cell(moved)
        result = self._run(cell)
        if differing(result.pins, self._pins(moved)):
            return self._silent(moved, f"the lock of {cell.name} has other versions")
        return self._judged(moved, result)
