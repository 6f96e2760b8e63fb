"""Stage evidence → intervals: from which release to which something is known to work. Pure.

The words are those of MDN's browser-compat-data: `version_added` is the first release of a run that
is known to work, `version_last` the last one, `version_removed` the next one that is known not to.
A `≤` before `version_added` says that older releases were not tested. Nothing is said of releases
between two tested ones: `not_tested` names them. A release that was asked and could not say is
neither: `notes` name it, and why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from packaging.version import Version

from mcore_compat.core.outcomes import CheckOutcome
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


@dataclass(frozen=True, kw_only=True)
class ReleaseOutcomes:
    """What one check came to, by release of an axis: `said` whether it works, over all cells that
    could say; `silent` how it ended where none could."""

    said: Mapping[str, frozenset[bool]]
    silent: Mapping[str, frozenset[CheckOutcome]] = field(default_factory=dict)


def _answers(ended: Mapping[str, Iterable[CheckOutcome]]) -> ReleaseOutcomes:
    """From how the check ended in all cells of a release."""
    said: dict[str, frozenset[bool]] = {}
    silent: dict[str, frozenset[CheckOutcome]] = {}
    for version in sorted(ended, key=Version):
        outcomes = frozenset(ended[version])
        works = frozenset(o is CheckOutcome.WORKS for o in outcomes - _SILENT)
        if works:
            said[version] = works
        else:
            silent[version] = outcomes
    return ReleaseOutcomes(said=said, silent=silent)


def intervals(
    found: Sequence[Evidence],
    axis: str,
    kind: str,
    family: str | None,
    releases: Sequence[str],
) -> tuple[Interval, ...]:
    """The runs of releases at which a check works; empty where it works nowhere.

    `releases` are all that there are of the axis: those among a run that no cell tested are named.
    """
    ended: dict[str, set[CheckOutcome]] = {}
    for evidence in found:
        for check in evidence.checks:
            if check.kind == kind and check.family == family:
                ended.setdefault(evidence.pins[axis], set()).add(check.outcome)
    return from_answers(_answers(ended), axis, kind, family, releases)


def from_answers(
    answers: ReleaseOutcomes, axis: str, kind: str, family: str | None, releases: Sequence[str]
) -> tuple[Interval, ...]:
    """`intervals` of what one check came to."""
    said = answers.said
    tested = list(said)
    made = []
    run: list[str] = []
    for place, version in enumerate(tested):
        if True in said[version]:
            run.append(version)
        last = place == len(tested) - 1
        if run and (True not in said[version] or last):
            removed = version if True not in said[version] else None
            made.append(_interval(axis, kind, family, run, removed, answers, releases))
            run = []
    return tuple(made)


def _interval(
    axis: str,
    kind: str,
    family: str | None,
    run: Sequence[str],
    removed: str | None,
    answers: ReleaseOutcomes,
    releases: Sequence[str],
) -> Interval:
    said, silent = answers.said, answers.silent
    first, last = Version(run[0]), Version(run[-1])
    end = Version(removed) if removed else last
    before = max((Version(v) for v in (*said, *silent) if Version(v) < first), default=None)
    # Reaches back over what was not tested before the run, and on to what is known to fail.
    between = [
        v
        for v in releases
        if v not in said
        and v not in silent
        and (before is None or Version(v) > before)
        and Version(v) < end
        and (before is not None or Version(v) > first)
    ]
    older = any(Version(v) < first for v in releases)
    return Interval(
        axis=axis,
        kind=kind,
        family=family,
        version_added=f"≤{run[0]}" if before is None and older else run[0],
        version_last=run[-1],
        version_removed=removed,
        not_tested=tuple(sorted(between, key=Version)),
        partial=tuple(v for v in run if False in said[v]),
        notes=_notes(run, removed, answers),
    )


def _notes(run: Sequence[str], removed: str | None, answers: ReleaseOutcomes) -> tuple[str, ...]:
    """The releases that could not say, from the last answer before a run to the first after it."""
    said = [Version(v) for v in answers.said]
    start = max((v for v in said if v < Version(run[0])), default=None)
    by_outcome: dict[str, list[str]] = {}
    for version, outcomes in answers.silent.items():
        here = Version(version)
        if (start is None or here > start) and (removed is None or here < Version(removed)):
            for outcome in outcomes:
                by_outcome.setdefault(outcome.value, []).append(version)
    return tuple(f"{word} at {', '.join(at)}" for word, at in sorted(by_outcome.items()))


def every(found: Sequence[Evidence], axis: str, releases: Sequence[str]) -> tuple[Interval, ...]:
    """The intervals of every check over one axis, sorted by kind and family."""
    ended: dict[tuple[str, str], dict[str, set[CheckOutcome]]] = {}
    for e in found:  # once over all checks: a matrix of thousands of cells has half a million
        version = e.pins[axis]
        for c in e.checks:
            mine = ended.setdefault((c.kind, c.family or ""), {})
            mine.setdefault(version, set()).add(c.outcome)
    return tuple(
        one
        for (kind, family), by_version in sorted(ended.items())
        for one in from_answers(_answers(by_version), axis, kind, family or None, releases)
    )
