"""Checks that a result is consistent with itself. Pure.

A result may come from another process, another machine, or a file that somebody changed.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Sequence

from packaging.version import InvalidVersion

from mcore_compat.base.errors import ResultError
from mcore_compat.core.cells import AXES, parse_name, parsed, series_of
from mcore_compat.core.outcomes import CellOutcome, CheckOutcome
from mcore_compat.results.result import EXCHANGE, MAIN, CheckResult, Result

_NOT_INSTALLED = frozenset({CellOutcome.UNRESOLVABLE, CellOutcome.UNBUILDABLE})
"""Outcomes of a cell without checks."""


def refuse_contradictions(result: Result, *, checked: bool = False) -> None:
    """Refuse a result that contradicts itself; `checked`: `refuse_checks` was called.

    Raises:
        ResultError: names the contradiction.
    """
    for moment in (result.taken, *(source.taken for source in result.sources.values())):
        _refuse_moment(moment)
    if not checked:
        refuse_checks(result.checks, result.check_set, result.sources)
    _refuse_verdict(result)


def refuse_checks(
    checks: Sequence[CheckResult], check_set: str = MAIN, sources: Iterable[str] = ()
) -> None:
    """Refuse checks that contradict themselves or each other; `sources`: as of a result.

    Raises:
        ResultError: names the contradiction.
    """
    if len({check.check for check in checks}) != len(checks):
        (twice, _), *_ = Counter(check.check for check in checks).most_common(1)
        raise ResultError(f"it has the check {twice} twice")
    loads = {f"restore-from[{name}:" for name in sources}
    for check in checks:
        _refuse_name(check, check_set, loads)
        _refuse_outcome(check)


def refuse_name(result: Result) -> None:
    """Refuse an invalid name of a cell, or one that does not match the result's pins.

    Raises:
        ResultError: names it.
    """
    asked = parse_name(result.cell)
    if asked is None:
        raise ResultError(f"invalid name of a cell {result.cell}")
    if {*result.pins} != {*AXES} and (result.check_set == MAIN or not {*result.pins} <= {*AXES}):
        raise ResultError(f"its pins are not of {', '.join(AXES)}")
    words = (asked.mcore, asked.modelopt, asked.te, asked.torch, asked.python)
    for axis, word in zip(AXES, words, strict=True):
        if axis not in result.pins:
            continue
        version = result.pins[axis]
        try:
            number = parsed(version)
            meant = word is None or parsed(word) == number or series_of(version) == word
        except InvalidVersion:
            raise ResultError(f"its pin {axis} {version} is not a version") from None
        if not meant:
            raise ResultError(f"its pin {axis} {version} is not the {word} of {result.cell}")


def _refuse_moment(moment: str) -> None:
    try:
        datetime.datetime.fromisoformat(moment)
    except ValueError:
        raise ResultError(f"invalid timestamp {moment}") from None


def _refuse_name(check: CheckResult, check_set: str, loads: Iterable[str]) -> None:
    """Refuse an id that does not match the check's kind and family, or names a cell whose
    checkpoints were not loaded."""
    name, family = check.check, check.family
    if check_set == EXCHANGE:
        origin = next((start for start in loads if name.startswith(start)), None)
        if origin is None:
            raise ResultError(f"{name} names a cell whose checkpoints were not loaded")
        # Each has its own kind; in results of format 1 they had the same kind, and families.
        fits = check.kind in ("restore-from", name) and (family is None or family in name)
    else:
        fits = name == (check.kind if family is None else f"{check.kind}[{family}]")
    if not fits:
        of = "" if family is None else f" of {family}"
        raise ResultError(f"{name} does not match its kind {check.kind}{of}")


def _refuse_outcome(check: CheckResult) -> None:
    """Refuse a broken check without a failure, one that works-with without a condition, and one
    that works and has a failure."""
    conditional = check.outcome is CheckOutcome.WORKS_WITH
    if check.failure is None and check.outcome is CheckOutcome.BROKEN:
        raise ResultError(f"{check.check} is broken, but has no failure")
    if conditional and not (check.condition and check.failure):
        raise ResultError(f"{check.check} is works-with, but has no condition or no failure")
    if check.condition and not conditional:
        raise ResultError(f"{check.check} is {check.outcome}, but has a condition")
    if check.failure and check.outcome is CheckOutcome.WORKS:
        raise ResultError(f"{check.check} works, but has a failure")


def _refuse_verdict(result: Result) -> None:
    """Refuse an outcome of the cell that its checks contradict."""
    outcome = result.outcome
    if result.check_set != MAIN:
        fits = outcome is CellOutcome.UNTESTED  # the main set alone gives a verdict
    elif not result.complete:
        fits = outcome is CellOutcome.ERROR
    elif outcome in _NOT_INSTALLED:
        fits = not result.checks and result.reason is not None
    elif outcome is CellOutcome.ERROR:
        fits = not result.checks
    else:
        return  # the checks decide which of the others it is
    if not fits:
        what = f"{len(result.checks)} checks" if result.checks else "no check"
        cut = "" if result.complete else " of an interrupted run"
        why = "" if result.reason else " and no reason"
        raise ResultError(f"it is {outcome}, with {what}{cut}{why}")
