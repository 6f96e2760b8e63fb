"""Which checkpoints a cell loads, and the results for those that were not saved. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from mcore_compat.core.outcomes import HOLDS, CheckOutcome
from mcore_compat.exchange.plan import WAYS, Pair
from mcore_compat.exchange.transfer_results import Answers
from mcore_compat.results.result import CheckResult

NOT_SAVED = "not saved: "
"""The prefix of the reason of a load whose checkpoint could not be saved."""


def words(pairs: Sequence[Pair], saved: Mapping[str, Answers]) -> list[str]:
    """The loads that the suite runs, as `CELL:WAY`: of cells that have such a checkpoint.

    `saved`: how each save ended, by cell and by `family:kind`.
    """
    names = []
    for pair in pairs:
        kinds = {key.partition(":")[2] for key in _works(saved[pair.origin])}
        names += [f"{pair.origin}:{way}" for way in pair.ways if WAYS[way] in kinds]
    return sorted(names)


def _works(saved: Answers) -> list[str]:
    return [key for key, check in saved.items() if check.outcome in HOLDS]


def wanted(saved: Answers, ways: Sequence[str]) -> set[str]:
    """By `family:way`: the loads of all checkpoints that a cell saved."""
    works = (key.partition(":") for key in _works(saved))
    return {f"{family}:{way}" for family, _, kind in works for way in ways if WAYS[way] == kind}


def not_saved(origin: str, saved: Answers, ways: Sequence[str]) -> Iterator[CheckResult]:
    """The results of loads whose checkpoint could not be saved.

    A save that failed blocks the load; a save that cannot run passes on its reason.
    """
    for key, check in saved.items():
        family, _, kind = key.partition(":")
        if check.outcome in HOLDS:
            continue
        outcome, reason = check.outcome, check.reason
        if outcome not in (CheckOutcome.UNSUPPORTED, CheckOutcome.NEEDS_GPU):
            cause = f" ({check.failure.fingerprint})" if check.failure else ""
            outcome, reason = CheckOutcome.BLOCKED, f"save-{kind}[{family}] is {outcome}{cause}"
        for way in ways:
            if WAYS[way] == kind:
                yield replace(
                    check,
                    check=f"restore-from[{origin}:{family}:{way}]",
                    kind="restore-from",
                    outcome=outcome,
                    reason=f"{NOT_SAVED}{reason}",
                    seconds=None,
                    details={},
                )
