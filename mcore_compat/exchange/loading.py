"""What is asked of a cell that loads, and what is said where nothing can be asked. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mcore_compat.core.outcomes import CheckOutcome
from mcore_compat.exchange.evidence import CHECK, Answer
from mcore_compat.exchange.plan import WAYS, Pair

NOT_SAVED = "not saved: "
"""Begins the reason of a load whose checkpoint could not be saved."""


def parsed(check: str) -> tuple[str, str] | None:
    """`(cell that saved, "family:way")` of a check's id; None for a check of another kind."""
    match = CHECK.fullmatch(check)
    return (match["cell"], match["key"]) if match else None


def words(pairs: Sequence[Pair], saved: Mapping[str, Mapping[str, Answer]]) -> list[str]:
    """What the suite is told to load, `CELL:WAY`: of those that have such a checkpoint.

    `saved`: how each save ended, by cell and by `family:kind`.
    """
    found = []
    for pair in pairs:
        kinds = {
            key.partition(":")[2]
            for key, one in saved[pair.origin].items()
            if one.outcome is CheckOutcome.WORKS
        }
        found += [f"{pair.origin}:{way}" for way in pair.ways if WAYS[way] in kinds]
    return sorted(found)


def wanted(saved: Mapping[str, Answer], ways: Sequence[str]) -> set[str]:
    """By `family:way`: what is to be loaded of a cell, all that it saved."""
    works = (key.partition(":") for key, one in saved.items() if one.outcome is CheckOutcome.WORKS)
    return {f"{family}:{way}" for family, _, kind in works for way in ways if WAYS[way] == kind}


def not_saved(saved: Mapping[str, Answer], ways: Sequence[str]) -> dict[str, Answer]:
    """By `family:way`: what stands for a load whose checkpoint could not be saved.

    A save that failed blocks it; a save that cannot be asked passes on why.
    """
    found = {}
    for key, one in saved.items():
        family, _, kind = key.partition(":")
        if one.outcome is CheckOutcome.WORKS:
            continue
        outcome, reason = one.outcome, one.reason
        if outcome not in (CheckOutcome.UNSUPPORTED, CheckOutcome.NEEDS_GPU):
            cause = f" ({one.cause})" if one.cause else ""
            outcome, reason = CheckOutcome.BLOCKED, f"save-{kind}[{family}] is {outcome}{cause}"
        for way in ways:
            if WAYS[way] == kind:
                told = Answer(outcome=outcome, cause=one.cause, reason=f"{NOT_SAVED}{reason}")
                found[f"{family}:{way}"] = told
    return found
