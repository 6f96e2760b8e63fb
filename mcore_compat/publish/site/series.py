"""A page for each series of a package: what works with it, what it broke and fixed. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mcore_compat.analysis.interfaces import changes as interface_changes
from mcore_compat.analysis.interfaces.changes import InterfaceChange as Change
from mcore_compat.core.cells import AXES, parsed, series_of
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.core.releases import Release
from mcore_compat.publish.collation import counts
from mcore_compat.publish.rendering import NAMES, render
from mcore_compat.publish.site.view import Site, restores
from mcore_compat.results import comparison
from mcore_compat.results.evidence import Evidence

PACKAGES = AXES[:-1]
"""Python has no page: what it broke is not asked."""

_PAIR = {AXES[0]: AXES[1], AXES[1]: AXES[0]}


@dataclass(frozen=True, kw_only=True)
class ChangedCheck:
    """A check that answers otherwise than in the series before; `cells` as new and old one."""

    check: str
    why: str
    fingerprint: str
    cells: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Against:
    """Cells of the series beside cells of the one before. `exact`: all other pins are the same;
    else others differ too, by axis in `also`, and may be the cause."""

    exact: bool
    pairs: tuple[tuple[Evidence, Evidence], ...]
    broke: tuple[ChangedCheck, ...]
    fixed: tuple[ChangedCheck, ...]
    also: tuple[str, ...] = ()
    suites_differ: int = 0


@dataclass
class Series:
    """One series of a package. `drift`: what changed in its interfaces, by subject."""

    package: str
    name: str
    before: str
    after: str
    releases: tuple[Release, ...]
    tested: tuple[str, ...]
    found: list[Evidence] = field(default_factory=list)
    untested: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"{NAMES[self.package]} {self.name}"

    def totals(self) -> list[tuple[str, int]]:
        outcomes = [e.outcome for e in self.found]
        outcomes += [CellOutcome.UNTESTED] * len(self.untested)
        return [(o.value, outcomes.count(o)) for o in CellOutcome if o in outcomes]


def pages(site: Site) -> Iterator[tuple[str, str]]:
    """`releases/PACKAGE-SERIES.html`, and the list of them."""
    every = {package: _series(site, package) for package in PACKAGES}
    changes: dict[tuple[str, str], list[Change]] = {}
    for change in site.all_.drift:
        changes.setdefault((change.subject.package, series_of(change.after)), []).append(change)
    for package, by_name in every.items():
        for name, one in by_name.items():
            before = by_name.get(one.before)
            beside = against(package, before.found, one.found) if before else None
            yield (
                f"releases/{package}-{name}.html",
                render(
                    "series.html",
                    root="../",
                    one=one,
                    against=beside,
                    drift=list(interface_changes.rows(changes.get((package, name), ()))),
                    rows=[(e, counts(e), restores(e)) for e in _newest_first(one.found)],
                    stale=site.stale,
                ),
            )
    yield "releases/index.html", render("releases.html", root="../", packages=every)


def _series(site: Site, package: str) -> dict[str, Series]:
    """Every series of a package that the matrix or evidence names, oldest first."""
    entries: dict[str, list[str]] = {}
    for one in site.entries.values():
        entries.setdefault(series_of(one.pins[package]), []).append(one.name)
    order = sorted(entries, key=parsed)
    made = {}
    for i, name in enumerate(order):
        mine = [site.entries[cell] for cell in entries[name]]
        found = [e for one in mine for e in one.by_class.values()]
        made[name] = Series(
            package=package,
            name=name,
            before=order[i - 1] if i else "",
            after=order[i + 1] if i + 1 < len(order) else "",
            releases=tuple(
                r for r in site.all_.releases.of(package) if series_of(r.version) == name
            ),
            tested=tuple(sorted({e.pins[package] for e in found}, key=parsed)),
            found=found,
            untested=[one.name for one in mine if not one.by_class],
        )
    return made


def _newest_first(found: Sequence[Evidence]) -> list[Evidence]:
    return sorted(
        found,
        key=lambda e: (
            *(tuple(-n for n in parsed(e.pins[axis]).release) for axis in AXES),
            e.cell,
            e.device_class,
        ),
    )


def against(package: str, old: Sequence[Evidence], new: Sequence[Evidence]) -> Against | None:
    """What differs, where cells can be compared; of those whose other pins are all the same
    where there are any."""
    others = [axis for axis in AXES if axis != package]
    pairs = _pairs(others, old, new)
    if pairs:
        return _against(package, pairs, exact=True)
    if package in _PAIR:
        pairs = _pairs([_PAIR[package]], old, new)
    return _against(package, pairs, exact=False) if pairs else None


def _pairs(
    axes: Sequence[str], old: Sequence[Evidence], new: Sequence[Evidence]
) -> list[tuple[Evidence, Evidence]]:
    """Each newer piece of evidence that came to its checks, with the older one that shares
    `axes`: of several, the first by name, which is that of the default stack."""

    def key(e: Evidence) -> tuple[str, ...]:
        return e.device_class, *(e.pins[axis] for axis in axes)

    before: dict[tuple[str, ...], Evidence] = {}
    for e in sorted(old, key=lambda e: e.cell, reverse=True):
        if e.checks:
            before[key(e)] = e
    after: dict[tuple[str, ...], Evidence] = {}
    for e in sorted(new, key=lambda e: e.cell, reverse=True):
        if e.checks:
            after[key(e)] = e
    return [(before[at], e) for at, e in sorted(after.items()) if at in before]


def _against(package: str, pairs: Sequence[tuple[Evidence, Evidence]], *, exact: bool) -> Against:
    broke: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    fixed: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    also: dict[str, None] = {}
    suites = 0
    for old, new in pairs:
        suites += old.suite != new.suite
        also.update(dict.fromkeys(comparison.other_pins(old, new, package)))
        if _answers(old) == _answers(new):
            continue
        made = comparison.difference(old, new)
        prints = {c.check: c.failure.fingerprint for c in new.checks if c.failure}
        for change in made.broke:
            key = change.check, change.why, prints.get(change.check, "")
            broke.setdefault(key, []).append((new.cell, old.cell))
        for change in made.fixed:
            fixed.setdefault((change.check, "", ""), []).append((new.cell, old.cell))
    return Against(
        exact=exact,
        pairs=tuple(pairs),
        broke=_lines(broke),
        fixed=_lines(fixed),
        also=tuple(axis for axis in AXES if axis in also),
        suites_differ=suites,
    )


def _answers(e: Evidence) -> list[tuple[str, str]]:
    return [(c.check, c.outcome.value) for c in e.checks]


def _lines(found: Mapping[tuple[str, str, str], list[tuple[str, str]]]) -> tuple[ChangedCheck, ...]:
    return tuple(
        ChangedCheck(check=check, why=why, fingerprint=fingerprint, cells=tuple(cells))
        for (check, why, fingerprint), cells in sorted(found.items())
    )
