"""Stage evidence → intervals: from which release to which something is known to work. Pure.

The words are those of MDN's browser-compat-data: `version_added` is the first release of a run that
is known to work, `version_last` the last one, `version_removed` the next one that is known not to.
A `≤` before `version_added` says that older releases were not tested. Nothing is said of releases
between two tested ones: `not_tested` names them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from packaging.version import Version

from mcore_compat.evidence import Evidence
from mcore_compat.outcomes import CheckOutcome

_SILENT = {CheckOutcome.UNSUPPORTED, CheckOutcome.NEEDS_GPU, CheckOutcome.BLOCKED}
"""Outcomes that say neither that it works nor that it does not."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A run of tested releases of one axis at which a check works in every tested cell.

    `partial` are releases within the run at which it works in some cells and fails in others.
    """

    axis: str
    kind: str
    family: str | None
    version_added: str
    version_last: str
    version_removed: str | None
    not_tested: tuple[str, ...]
    partial: tuple[str, ...]


def answers(
    found: Iterable[Evidence], axis: str, kind: str, family: str | None
) -> dict[str, frozenset[bool]]:
    """By release of the axis: whether the check works, over all cells that could say. Sorted."""
    said: dict[str, set[bool]] = {}
    for evidence in found:
        for check in evidence.checks:
            asked = check.kind == kind and check.family == family
            if asked and check.outcome not in _SILENT:
                works = check.outcome is CheckOutcome.WORKS
                said.setdefault(evidence.pins[axis], set()).add(works)
    return {v: frozenset(said[v]) for v in sorted(said, key=Version)}


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
    return from_answers(answers(found, axis, kind, family), axis, kind, family, releases)


def from_answers(
    said: Mapping[str, frozenset[bool]],
    axis: str,
    kind: str,
    family: str | None,
    releases: Sequence[str],
) -> tuple[Interval, ...]:
    """`intervals` of what `answers` gives."""
    tested = list(said)
    made = []
    run: list[str] = []
    for place, version in enumerate(tested):
        if True in said[version]:
            run.append(version)
        last = place == len(tested) - 1
        if run and (True not in said[version] or last):
            removed = version if True not in said[version] else None
            made.append(_interval(axis, kind, family, run, removed, said, releases, tested))
            run = []
    return tuple(made)


def _interval(
    axis: str,
    kind: str,
    family: str | None,
    run: Sequence[str],
    removed: str | None,
    said: Mapping[str, frozenset[bool]],
    releases: Sequence[str],
    tested: Sequence[str],
) -> Interval:
    first, last = Version(run[0]), Version(run[-1])
    end = Version(removed) if removed else last
    before = max((Version(v) for v in tested if Version(v) < first), default=None)
    # Reaches back over what was not tested before the run, and on to what is known to fail.
    between = [
        v
        for v in releases
        if v not in tested
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
    )


def every(found: Sequence[Evidence], axis: str, releases: Sequence[str]) -> tuple[Interval, ...]:
    """The intervals of every check over one axis, sorted by kind and family."""
    said: dict[tuple[str, str], dict[str, set[bool]]] = {}
    for e in found:  # once over all checks: a matrix of thousands of cells has half a million
        version = e.pins[axis]
        for c in e.checks:
            if c.outcome not in _SILENT:
                mine = said.setdefault((c.kind, c.family or ""), {})
                mine.setdefault(version, set()).add(c.outcome is CheckOutcome.WORKS)
    return tuple(
        one
        for (kind, family), by_version in sorted(said.items())
        for one in from_answers(
            {v: frozenset(by_version[v]) for v in sorted(by_version, key=Version)},
            axis,
            kind,
            family or None,
            releases,
        )
    )
