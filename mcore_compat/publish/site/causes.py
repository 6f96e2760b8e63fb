"""A page for each cause of failures: where it was seen, over which versions, who knows. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mcore_compat.analysis.explanation import Explained
from mcore_compat.core.matrix import Pairs
from mcore_compat.publish.rendering import page
from mcore_compat.publish.site.cell import excerpt
from mcore_compat.publish.site.view import Site
from mcore_compat.results import verdict
from mcore_compat.results.evidence import Evidence


@dataclass(frozen=True, kw_only=True)
class CausePage:
    """A cause over all cells; `explained` by device class, `where` the cells with their checks."""

    cause: verdict.Cause
    checks: tuple[str, ...]
    where: tuple[tuple[Evidence, tuple[str, ...]], ...]
    explained: tuple[tuple[str, Explained], ...]
    declared: tuple[Pairs, ...]
    undeclared: int
    traceback: str


def pages(site: Site) -> Iterator[tuple[str, str]]:
    """`causes/FINGERPRINT.html`, and the list of them."""
    every = sorted(causes(site), key=lambda c: (-len(c.where), c.cause.fingerprint))
    for one in every:
        yield f"causes/{one.cause.fingerprint}.html", page("cause.html", "../", one=one)
    yield "causes/index.html", page("causes.html", "../", causes=every)


def causes(site: Site) -> Iterator[CausePage]:
    """Every cause."""
    explained: dict[str, list[tuple[str, Explained]]] = {}
    for device_class, made in site.all_.explained.items():
        for one in made:
            explained.setdefault(one.fingerprint, []).append((device_class, one))
    places = {name: i for i, name in enumerate(site.entries)}
    rules = site.all_.matrix.expected
    for fingerprint, members in site.all_.by_cause.items():
        members = tuple(sorted(members, key=lambda m: (places[m[0].cell], m[0].device_class)))
        found: dict[Pairs, None] = {}
        undeclared = 0
        for e, cause in members:
            mine = [verdict.rule_for(e, check, rules) for check in cause.checks]
            found.update(dict.fromkeys(rule for rule in mine if rule))
            undeclared += None in mine
        yield CausePage(
            cause=members[0][1],
            checks=tuple(sorted({check for _, cause in members for check in cause.checks})),
            where=tuple((e, cause.checks) for e, cause in members),
            explained=tuple(explained.get(fingerprint, ())),
            declared=tuple(found),
            undeclared=undeclared,
            traceback=_traceback(members[-1][0], fingerprint),
        )


def _traceback(e: Evidence, fingerprint: str) -> str:
    failures = (c.failure for c in e.checks)
    return next(excerpt(f.traceback) for f in failures if f and f.fingerprint == fingerprint)
