"""Stage evidence → intervals: from which release to which something is known to work. Pure.

The words are those of MDN's browser-compat-data: `version_added` is the first release of a run that
is known to work, `version_last` the last one, `version_removed` the next one that is known not to.
A `≤` before `version_added` says that older releases were not tested. Nothing is said of releases
between two tested ones: `not_tested` names them. A release that was asked and could not say is
neither: `notes` name it, and why.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from packaging.version import Version

from mcore_compat.core.outcomes import HOLDS, CheckOutcome
from mcore_compat.results.evidence import Evidence

_SILENT = {CheckOutcome.UNSUPPORTED, CheckOutcome.NEEDS_GPU, CheckOutcome.BLOCKED}
"""Outcomes that say neither that it works nor that it does not."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A run of tested releases of one axis at which a check works in every tested cell.

    `partial` are releases within the run at which it works in some cells and fails in others;
    `notes` name those within it and on its two sides that could not say: `unsupported at 0.11.0`.
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
"""How one check ended in the cells of each release of an axis."""


def every(evidence: Sequence[Evidence], axis: str, releases: Sequence[str]) -> tuple[Interval, ...]:
    """The intervals of every check over one axis, sorted by kind and family.

    `releases` are all that there are of the axis: those among a run that no cell tested are named.
    """
    outcomes: dict[tuple[str, str], dict[str, set[CheckOutcome]]] = {}
    for e in evidence:  # once over all checks: a matrix of thousands of cells has half a million
        version = e.pins[axis]
        for c in e.checks:
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
    """The runs of releases at which a check works; none where it works nowhere."""
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
        # Reaches back over what was not tested before the run, and on to what is known to fail.
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
    """The releases that could not say, from the last answer before a run to the first after it."""
    start = max((v for v in map(Version, answering) if v < Version(run[0])), default=None)
    by_outcome: dict[str, list[str]] = {}
    for release, outcomes in silent.items():
        version = Version(release)
        if (start is None or version > start) and (removed is None or version < Version(removed)):
            for outcome in outcomes:
                by_outcome.setdefault(outcome.value, []).append(release)
    return tuple(f"{word} at {', '.join(at)}" for word, at in sorted(by_outcome.items()))
