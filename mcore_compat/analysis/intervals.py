"""Stage results → intervals: from which release to which a check works. Pure.

The keys are those of MDN's browser-compat-data: `version_added` is the first release of a run in
which the check works, `version_last` the last one, `version_removed` the next one in which it
fails. A `≤` before `version_added` means that older releases were not tested. `not_tested` names
untested releases between two tested ones. `notes` name tested releases in which the check neither
works nor fails, and why.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from packaging.version import Version

from mcore_compat.core.outcomes import HOLDS, CheckOutcome
from mcore_compat.results.result import Result

_SILENT = {CheckOutcome.UNSUPPORTED, CheckOutcome.NEEDS_GPU, CheckOutcome.BLOCKED}
"""Outcomes that mean neither that a check works nor that it fails."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A run of tested releases of one axis at which a check works in every tested cell.

    `partial`: releases in the run at which it works in some cells and fails in others. `notes`:
    releases in the run and on its two sides at which it does neither: `unsupported at 0.11.0`.
    """

    axis: str
    kind: str
    family: str | None
    version_added: str
    version_last: str
    version_removed: str | None
    not_tested: tuple[str, ...]
    partial: tuple[str, ...]
    notes: tuple[str, ...] = ()


OutcomesByRelease = Mapping[str, Collection[CheckOutcome]]
"""The outcomes of one check in the cells of each release of an axis."""


def every(results: Sequence[Result], axis: str, releases: Sequence[str]) -> tuple[Interval, ...]:
    """Return the intervals of every check over one axis, sorted by kind and family.

    `releases`: all releases of the axis; those in a run that no cell tested go into `not_tested`.
    """
    outcomes: dict[tuple[str, str], dict[str, set[CheckOutcome]]] = {}
    # Once for all cells of a release that ended alike: thousands have half a million checks.
    for endings, version in dict.fromkeys((e.endings, e.pins[axis]) for e in results):
        for c in endings.checks:
            by_release = outcomes.setdefault((c.kind, c.family or ""), {})
            by_release.setdefault(version, set()).add(c.outcome)
    return tuple(
        interval
        for (kind, family), by_release in sorted(outcomes.items())
        for interval in of_check(by_release, axis, kind, family or None, releases)
    )


def of_check(
    outcomes: OutcomesByRelease, axis: str, kind: str, family: str | None, releases: Sequence[str]
) -> Iterator[Interval]:
    """Yield the runs of releases at which a check works; nothing if it works nowhere."""
    answers = {
        version: {outcome in HOLDS for outcome in {*outcomes[version]} - _SILENT}
        for version in sorted(outcomes, key=Version)
    }
    answering = [version for version in answers if answers[version]]
    groups = itertools.groupby(answering, key=lambda version: True in answers[version])
    runs = [(works, list(versions)) for works, versions in groups]
    for place, (works, run) in enumerate(runs):
        if not works:
            continue
        removed = next((versions[0] for _, versions in runs[place + 1 :]), None)
        first, last = Version(run[0]), Version(run[-1])
        before = max((Version(v) for v in outcomes if Version(v) < first), default=None)
        # From the last tested release before the run to the next one that fails.
        start, end = before or first, Version(removed) if removed else last
        between = [v for v in releases if v not in outcomes and start < Version(v) < end]
        older = any(Version(v) < first for v in releases)
        silent = {v: outcomes[v] for v in answers if not answers[v]}
        yield Interval(
            axis=axis,
            kind=kind,
            family=family,
            version_added=f"≤{run[0]}" if before is None and older else run[0],
            version_last=run[-1],
            version_removed=removed,
            not_tested=tuple(sorted(between, key=Version)),
            partial=tuple(v for v in run if False in answers[v]),
            notes=_notes(run, removed, answering, silent),
        )


def _notes(
    run: Sequence[str], removed: str | None, answering: Sequence[str], silent: OutcomesByRelease
) -> tuple[str, ...]:
    """Name the releases at which the check neither works nor fails, between the last release before
    the run and the first after it at which it does either."""
    start = max((v for v in map(Version, answering) if v < Version(run[0])), default=None)
    by_outcome: dict[str, list[str]] = {}
    for release, outcomes in silent.items():
        version = Version(release)
        if (start is None or version > start) and (removed is None or version < Version(removed)):
            for outcome in outcomes:
                by_outcome.setdefault(outcome.value, []).append(release)
    return tuple(f"{word} at {', '.join(at)}" for word, at in sorted(by_outcome.items()))
