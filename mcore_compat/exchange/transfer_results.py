"""Results of loading other cells' checkpoints: one of the check set `exchange` for each cell that
loads, with a check `restore-from[CELL:FAMILY:WAY]` for each checkpoint of those that saved."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from mcore_compat.base import foreign
from mcore_compat.core.outcomes import FAILURES
from mcore_compat.exchange.plan import WAYS
from mcore_compat.results.result import CheckResult, Failure, Result, Source

NOTED = (
    "with defaults",
    "load with defaults",
    "lenient load loses",  # in older results
    "other keys",
    "other names",
    "disabled quantizers",
)
"""The details of a check that are stored."""

UNDER = "under "
"""The prefix of the name of a detail about a load under a condition; the condition follows."""

CHECK = re.compile(r"restore-from\[(?P<cell>[^:\]]+):(?P<key>[^:\]]+:[^:\]]+)\]")
"""The id of a check that loads: the cell that saved, and `family:way`."""

Answers = Mapping[str, CheckResult]
"""How the checkpoints of one cell loaded, by `family:way`, or were saved, by `family:kind`."""


def parsed(check: str) -> tuple[str, str] | None:
    """`(cell that saved, "family:way")` of a check's id; None for a check of another kind."""
    match = CHECK.fullmatch(check)
    return (match["cell"], match["key"]) if match else None


def answers(result: Result) -> dict[str, dict[str, CheckResult]]:
    """By the cell that saved and by `family:way`: how its checkpoints loaded."""
    by_origin: dict[str, dict[str, CheckResult]] = {origin: {} for origin in result.sources}
    for check in result.checks:
        ids = parsed(check.check)
        if ids is not None and ids[0] in by_origin:
            by_origin[ids[0]][ids[1]] = check
    return by_origin


def kept(check: CheckResult) -> CheckResult:
    """A check as it is stored: with its failure, else with its reason."""
    failed = check.outcome in FAILURES or check.condition is not None
    return replace(
        check,
        failure=check.failure if failed else None,
        reason=None if failed else check.reason,
        details={
            name: value
            for name, value in check.details.items()
            if value and (name in NOTED or name.startswith(UNDER))
        },
    )


def is_fresh(
    result: Result, origin: str, ways: Iterable[str], *, lock: str, manifests: str | None
) -> bool:
    """Whether `origin`'s checkpoints were loaded in these ways, and are still those of its lock;
    `manifests`: None if its checkpoints are not on this machine any more."""
    source = result.sources.get(origin)
    if source is None or source.lock != lock or not set(ways) <= set(source.ways):
        return False
    return manifests in (None, source.manifests)


def outdated(results: Iterable[Result], checks: str, locks: Mapping[str, str]) -> list[str]:
    """In words, which results are of other checks or locks than the current ones; `locks`: digests
    by cell."""
    lines = []
    for result in sorted(results, key=lambda e: (e.cell, e.device_class)):
        old = [name for name, s in sorted(result.sources.items()) if s.lock != locks.get(name)]
        if result.suite != checks:
            lines.append(f"all that {result.cell} loaded: the checks changed")
        elif result.lock != locks.get(result.cell):
            lines.append(f"all that {result.cell} loaded: its lock changed")
        elif old:
            lines.append(f"what {result.cell} loaded of {', '.join(old)}: their locks changed")
    return lines


def with_source(
    result: Result, origin: str, source: Source, checks: Iterable[CheckResult]
) -> Result:
    """`result` with the checks of one more cell's checkpoints. For the same checkpoints, checks of
    other ways stay."""
    old = result.sources.get(origin)
    stay: list[CheckResult] = []
    if old and (old.lock, old.manifests) == (source.lock, source.manifests):
        rest = [way for way in old.ways if way not in source.ways]
        mine = answers(result)[origin]
        stay = [check for key, check in mine.items() if key.partition(":")[2] in rest]
        source = replace(source, ways=tuple(w for w in WAYS if w in (*rest, *source.ways)))
    others = [c for c in result.checks if (parsed(c.check) or ("",))[0] != origin]
    return replace(
        result,
        taken=max(result.taken, source.taken) if result.sources else source.taken,
        sources={**result.sources, origin: source},
        checks=tuple(sorted((*others, *stay, *checks), key=lambda check: check.check)),
    )


def gist(failure: Failure) -> str:
    """The message of a failure, on one line."""
    return foreign.plain(" ".join(failure.message.split()))
