"""A page for each series of a package: what works with it, what it broke and what it fixed.
Pure."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mcore_compat.analysis.interfaces import changes as interface_changes
from mcore_compat.analysis.interfaces.changes import InterfaceChange as Change
from mcore_compat.core.cells import AXES, parsed, series_of
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.core.releases import Release
from mcore_compat.publish.collation import counts
from mcore_compat.publish.rendering import NAMES, render
from mcore_compat.publish.site.view import Site, restores, totals
from mcore_compat.results import comparison
from mcore_compat.results.result import CheckEndings, Result

PACKAGES = AXES[:-1]
"""The axes whose series have a page: all but Python."""

_PAIR = {AXES[0]: AXES[1], AXES[1]: AXES[0]}


class ChangedCheck(NamedTuple):
    """A check whose outcome differs from the series before. `why`: its failure in the newer cell,
    or the condition that it needs there."""

    check: str
    why: str
    fingerprint: str


Changed = Mapping[ChangedCheck, Sequence[tuple[str, str]]]
"""Changed checks, each with the pairs of new and old cell in which it changed. Sorted."""


@dataclass(frozen=True, kw_only=True)
class Against:
    """A series compared with the one before.

    - `pairs`: the compared cells, old and new.
    - `exact`: all other pins are the same; else the axes in `also` differ too and may be the cause.
    - `broke`, `needs`, `fixed`: the checks that now fail, now need a condition, now work.
    - `suites_differ`: the number of pairs that were run with different suites.
    """

    exact: bool
    pairs: Sequence[tuple[Result, Result]]
    broke: Changed
    needs: Changed
    fixed: Changed
    also: tuple[str, ...]
    suites_differ: int


@dataclass
class Series:
    """One series of a package. `before`, `after`: the adjacent series, or empty; `tested`: its
    tested releases; `untested`: its cells without results."""

    package: str
    name: str
    before: str
    after: str
    releases: tuple[Release, ...]
    tested: tuple[str, ...]
    results: list[Result] = field(default_factory=list)
    untested: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"{NAMES[self.package]} {self.name}"

    def totals(self) -> list[tuple[str, int]]:
        outcomes = [e.outcome for e in self.results]
        return totals([*outcomes, *([CellOutcome.UNTESTED] * len(self.untested))])


def pages(site: Site) -> Iterator[tuple[str, str]]:
    """`releases/PACKAGE-SERIES.html`, and the list of all series."""
    every = {package: _series(site, package) for package in PACKAGES}
    changes: dict[tuple[str, str], list[Change]] = {}
    for change in site.all_.drift:
        changes.setdefault((change.subject.package, series_of(change.after)), []).append(change)
    for package, by_name in every.items():
        for name, entry in by_name.items():
            before = by_name.get(entry.before)
            beside = against(package, before.results, entry.results) if before else None
            yield (
                f"releases/{package}-{name}.html",
                render(
                    "series.html",
                    root="../",
                    one=entry,
                    against=beside,
                    drift=list(interface_changes.rows(changes.get((package, name), ()))),
                    rows=[(e, counts(e), restores(e)) for e in _newest_first(entry.results)],
                    stale=site.stale,
                ),
            )
    yield "releases/index.html", render("releases.html", root="../", packages=every)


def _series(site: Site, package: str) -> dict[str, Series]:
    """Every series of a package in the matrix or the results, oldest first."""
    entries: dict[str, list[str]] = {}
    for entry in site.entries.values():
        entries.setdefault(series_of(entry.pins[package]), []).append(entry.name)
    order = sorted(entries, key=parsed)
    by_series = {}
    for i, name in enumerate(order):
        mine = [site.entries[cell] for cell in entries[name]]
        results = [e for entry in mine for e in entry.by_class.values()]
        by_series[name] = Series(
            package=package,
            name=name,
            before=order[i - 1] if i else "",
            after=order[i + 1] if i + 1 < len(order) else "",
            releases=tuple(
                r for r in site.all_.releases.of(package) if series_of(r.version) == name
            ),
            tested=tuple(sorted({e.pins[package] for e in results}, key=parsed)),
            results=results,
            untested=[entry.name for entry in mine if not entry.by_class],
        )
    return by_series


def _newest_first(results: Sequence[Result]) -> list[Result]:
    return sorted(
        results,
        key=lambda e: (
            *(tuple(-n for n in parsed(e.pins[axis]).release) for axis in AXES),
            e.cell,
            e.device_class,
        ),
    )


def against(package: str, old: Sequence[Result], new: Sequence[Result]) -> Against | None:
    """The comparison of two series; None if no cells can be compared. Cells whose other pins are
    all the same are preferred."""
    others = [axis for axis in AXES if axis != package]
    exact = _pairs(others, old, new)
    pairs = exact or (_pairs([_PAIR[package]], old, new) if package in _PAIR else [])
    if not pairs:
        return None
    broke: dict[ChangedCheck, list[tuple[str, str]]] = {}
    needs: dict[ChangedCheck, list[tuple[str, str]]] = {}
    fixed: dict[ChangedCheck, list[tuple[str, str]]] = {}
    also: set[str] = set()
    for before, after in pairs:
        also.update(comparison.other_pins(before, after, package))
        if _answers(before.endings) == _answers(after.endings):
            continue
        difference = comparison.difference(before, after)
        failures = {c.check: c.failure.fingerprint for c in after.checks if c.failure}
        for change in difference.broke:
            key = ChangedCheck(change.check, change.why, failures.get(change.check, ""))
            broke.setdefault(key, []).append((after.cell, before.cell))
        for change in difference.needs:
            key = ChangedCheck(change.check, _only(change), "")
            needs.setdefault(key, []).append((after.cell, before.cell))
        for change in (*difference.fixed, *difference.freed):
            key = ChangedCheck(change.check, _only(change), "")
            fixed.setdefault(key, []).append((after.cell, before.cell))
    return Against(
        exact=bool(exact),
        pairs=pairs,
        broke=dict(sorted(broke.items())),
        needs=dict(sorted(needs.items())),
        fixed=dict(sorted(fixed.items())),
        also=tuple(axis for axis in AXES if axis in also),
        suites_differ=sum(before.suite != after.suite for before, after in pairs),
    )


def _only(change: comparison.Change) -> str:
    """The condition that a changed check needs; empty if it needs none."""
    return f"only with {comparison.one_line(change.condition)}" if change.condition else ""


def _pairs(
    axes: Sequence[str], old: Sequence[Result], new: Sequence[Result]
) -> list[tuple[Result, Result]]:
    """Each new result that has checks, with the old one that has the same pins for `axes`. Of
    several, the first by name, which is that of the default stack."""

    def by_pins(results: Sequence[Result]) -> dict[tuple[str, ...], Result]:
        last_first = sorted(results, key=lambda e: e.cell, reverse=True)
        return {(e.device_class, *(e.pins[a] for a in axes)): e for e in last_first if e.checks}

    before, after = by_pins(old), by_pins(new)
    return [(before[pins], after[pins]) for pins in sorted({*before} & {*after})]


@functools.cache
def _answers(endings: CheckEndings) -> list[tuple[str, str, str | None]]:
    return [(c.check, c.outcome.value, c.condition) for c in endings.checks]
