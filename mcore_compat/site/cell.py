"""A page for each cell: what was asked there, what failed and why, what to take instead. Pure."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from markupsafe import Markup

from mcore_compat import verdict
from mcore_compat.cells import AXES, series_of
from mcore_compat.evidence import CheckResult, Evidence
from mcore_compat.matrix import Pairs
from mcore_compat.outcomes import FAILURES, CellOutcome
from mcore_compat.site.text import page
from mcore_compat.site.view import Counts, Entry, Site, counts

TRACEBACK = 40
"""Lines of a traceback that are shown, from its end."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A line of the table: one kind of check; `results` by family, `""` for none.

    `reasons`: why checks ended so, each with the families that it is given for.
    """

    name: str
    results: Mapping[str, CheckResult]
    reasons: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Failures of one cause; `rules` are those of the matrix that declare them."""

    cause: verdict.Cause
    traceback: str
    declared: tuple[Pairs, ...]
    unexpected: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A cell on one device class."""

    evidence: Evidence
    counts: Counts
    restores: tuple[str, ...]
    families: tuple[str, ...]
    kinds: tuple[Kind, ...]
    groups: tuple[Group, ...]
    stale: str
    seconds: float


def pages(site: Site) -> Iterator[tuple[str, str]]:
    """`cells/NAME.html`."""
    for one in site.entries.values():
        yield f"cells/{one.name}.html", text(site, one)


def text(site: Site, one: Entry) -> str:
    """One page."""
    good = one.name in site.constraints
    return page(
        "cell.html",
        "../",
        one=one,
        outcomes=[(d, e.outcome.value) for d, e in one.by_class.items()]
        or [("", CellOutcome.UNTESTED.value)],
        sections=[section(site, e) for e in one.by_class.values()],
        pinned=[(axis, one.pins[axis], series_of(one.pins[axis])) for axis in AXES],
        square=square,
        cuda=next((e.cuda for e in one.by_class.values()), None),
        constraints=good,
        instead=None if good else site.instead.of(one),
    )


def section(site: Site, e: Evidence) -> Section:
    """What is said of one device class."""
    return Section(
        evidence=e,
        counts=counts(e),
        restores=verdict.restoring(e),
        families=e.families(),
        kinds=tuple(_kinds(e)),
        groups=tuple(_groups(site, e)),
        stale=site.stale.get((e.cell, e.device_class), ""),
        seconds=sum(c.seconds for c in e.checks),
    )


def square(c: CheckResult, device_class: str) -> Markup:
    """What stands in a check's square."""
    return _square(
        c.outcome.value, c.seconds, c.failure.fingerprint if c.failure else "", device_class
    )


@functools.cache
def _square(outcome: str, seconds: float, fingerprint: str, device_class: str) -> Markup:
    said = Markup('<span class="sym" aria-hidden="true">{}</span> {}').format(
        verdict.SYMBOLS[outcome], outcome
    )
    if fingerprint:
        said = Markup('<a href="#{}-{}">{}</a>').format(device_class, fingerprint, said)
    return said + Markup(" <small>{} s</small>").format(f"{seconds:g}")


def _kinds(e: Evidence) -> Iterator[Kind]:
    by_kind: dict[str, dict[str, CheckResult]] = {}
    for c in e.checks:
        by_kind.setdefault(c.kind, {})[c.family or ""] = c
    for name, results in by_kind.items():
        reasons: dict[str, list[str]] = {}
        for family, c in results.items():
            if c.reason and not c.failure:
                reasons.setdefault(c.reason, []).append(family)
        every = len(results) > 1
        yield Kind(
            name=name,
            results=results,
            reasons=tuple(
                (reason, ", ".join(f) if every and len(f) < len(results) else "")
                for reason, f in reasons.items()
            ),
        )


def _groups(site: Site, e: Evidence) -> Iterator[Group]:
    rules = site.all_.matrix.expected
    tracebacks = {
        c.failure.fingerprint: c.failure.traceback
        for c in reversed(e.checks)
        if c.failure and c.outcome in FAILURES
    }
    for cause in site.all_.causes[e.cell, e.device_class]:
        by_check = {check: verdict.rule_for(e, check, rules) for check in cause.checks}
        yield Group(
            cause=cause,
            traceback=excerpt(tracebacks[cause.fingerprint]),
            declared=tuple(dict.fromkeys(rule for rule in by_check.values() if rule)),
            unexpected=tuple(check for check, rule in by_check.items() if rule is None),
        )


def excerpt(traceback: str) -> str:
    """The end of a traceback."""
    return "\n".join(traceback.rstrip().splitlines()[-TRACEBACK:])
