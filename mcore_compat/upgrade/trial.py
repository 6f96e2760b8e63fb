"""Which of the pins that move from FROM to TO is to blame for a failure: the cells between them are
asked. Pure, but for who is given to test those that were not tested."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mcore_compat.analysis.bisect.halving import CheckState
from mcore_compat.base.errors import UsageError
from mcore_compat.core import combinations
from mcore_compat.core.cells import AXES, Cell
from mcore_compat.core.outcomes import FAILURES, CellOutcome, CheckOutcome
from mcore_compat.results.evidence import CheckResult, Evidence
from mcore_compat.upgrade import blame, pins
from mcore_compat.upgrade.blame import Blame, Moved
from mcore_compat.upgrade.sides import Side, UpgradeInputs

Run = Callable[[Cell], Evidence]
"""Tests a cell that was not tested."""


@dataclass(frozen=True, kw_only=True)
class BlameReport:
    """What is to blame. `cells`: by combination, the cell that was asked; `why`: by combination,
    why it cannot be; `open`: the cells that could still be asked; `seconds` for one of them."""

    blame: Blame
    cells: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    why: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    open: tuple[str, ...] = ()
    seconds: float = 0.0


def state_of(found: Evidence, checks: Sequence[str], failed: CheckResult) -> tuple[CheckState, str]:
    """Whether a cell fails in these checks as `failed` did, and if it says neither, why."""
    if not found.checks:
        reason = f": {' '.join(found.reason.message.split())}" if found.reason else ""
        return CheckState.SILENT, f"{found.outcome.value}{reason}"
    there = {c.check: c for c in found.checks if c.check in checks}
    if any(_alike(c, failed) for c in there.values()):
        return CheckState.BAD, ""
    if len(there) == len(checks) and all(c.outcome is CheckOutcome.WORKS for c in there.values()):
        return CheckState.GOOD, ""
    other = sorted({c.outcome.value for c in there.values() if c.outcome is not CheckOutcome.WORKS})
    otherwise = " for another reason" if any(c.outcome in FAILURES for c in there.values()) else ""
    return CheckState.SILENT, f"{' and '.join(other) or 'not asked'} there{otherwise}"


def _says(one: Evidence, suite: str) -> bool:
    """Whether it may be compared with what TO's suite showed; no part of a suite, no network."""
    whole = one.complete and one.outcome is not CellOutcome.ERROR
    return whole and (not one.checks or one.suite == suite)


def _alike(one: CheckResult, failed: CheckResult) -> bool:
    if one.outcome is not failed.outcome:
        return False
    causes = [c.failure.fingerprint if c.failure else "" for c in (one, failed)]
    return causes[0] == causes[1]


class Trial:
    """One failure, and the cells between FROM and TO that tell what is to blame for it."""

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
        self._tested = pins.by_pins(e for e in known.found if _says(e, suite))
        self._axes = pins.moving(self._old, self._new)
        self._cells: dict[Moved, str] = {
            Moved(): origin.name,
            frozenset(self._axes): target.name,
        }
        self._why: dict[Moved, str] = {}
        self._open: dict[Moved, str] = {}
        self._seconds = sum(c.seconds or 0 for c in target.found.checks) if target.found else 0.0

    def verdict(self, hints: Sequence[Sequence[str]]) -> BlameReport:
        """What is to blame, by what is known, and by what `run` tells where there is one."""
        known = self._all()
        moves = [frozenset(hint) & frozenset(self._axes) for hint in hints]
        found = blame.find(self._axes, self._ask, known, [m for m in moves if m])

        def told(by: Mapping[Moved, str]) -> dict[tuple[str, ...], str]:
            rows = {tuple(a for a in AXES if a in moved): text for moved, text in by.items()}
            return {axes: rows[axes] for axes in sorted(rows, key=lambda a: (len(a), a))}

        open_ = [] if found.whole and all(not c.unknown for c in found.culprits) else self._open
        return BlameReport(
            blame=found,
            cells=told(self._cells),
            why=told(self._why),
            open=tuple(told(self._open).values()) if open_ else (),
            seconds=self._seconds,
        )

    def _all(self) -> dict[Moved, CheckState]:
        """The combinations of which something is known: tested, or known not to be installable."""
        known = {}
        for moved in blame.combinations(self._axes):
            state = self._from_evidence(moved) or self._from_metadata(moved)
            if state is not None:
                known[moved] = state
        return known

    def _from_evidence(self, moved: Moved) -> CheckState | None:
        wanted = pins.mixed(moved, self._old, self._new)
        found = self._tested.get(tuple(wanted[axis] for axis in AXES))
        return self._judged(moved, found) if found else None

    def _judged(self, moved: Moved, found: Evidence) -> CheckState:
        state, why = state_of(found, self._checks, self._failed)
        self._cells[moved] = found.cell
        if state is CheckState.SILENT:
            self._why[moved] = why
        return state

    def _from_metadata(self, moved: Moved) -> CheckState | None:
        """Whether the releases themselves say that they cannot be installed together."""
        all_ = self._known.all_
        try:
            wanted = pins.mixed(moved, self._old, self._new)
            cell = pins.cell_of(wanted, all_.matrix, all_.releases)
            reasons = combinations.violations(cell, all_.releases)
        except UsageError as error:
            reasons = (str(error),)
        if reasons:
            self._why[moved] = "; ".join(reasons)
            return CheckState.SILENT
        self._open[moved] = cell.name
        return None

    def _ask(self, moved: Moved) -> CheckState | None:
        if self._run is None:
            return None
        wanted = pins.mixed(moved, self._old, self._new)
        cell = pins.cell_of(wanted, self._known.all_.matrix, self._known.all_.releases)
        found = self._run(cell)
        if {axis: found.pins[axis] for axis in AXES} != wanted:
            self._why[moved] = f"{cell.name} is locked on other versions"
            return CheckState.SILENT
        return self._judged(moved, found)
