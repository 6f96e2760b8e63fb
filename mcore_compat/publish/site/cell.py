"""A page for each cell: the answer, what to use instead, features, causes, checks. Pure."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from markupsafe import Markup

from mcore_compat.core.cells import AXES, series_of
from mcore_compat.core.matrix import Pairs
from mcore_compat.core.outcomes import CellOutcome, CheckOutcome
from mcore_compat.core.profiles import DEFAULT
from mcore_compat.environments import plain_import
from mcore_compat.publish.collation import Counts, causes_of, counts
from mcore_compat.publish.rendering import part, render, shown
from mcore_compat.publish.site.view import Entry, Site
from mcore_compat.results import answer, verdict
from mcore_compat.results.better_cells import BetterCell
from mcore_compat.results.repairs import Repair
from mcore_compat.results.result import CheckEndings, CheckResult, Result


@dataclass(frozen=True, kw_only=True)
class Group:
    """The failures of one cause in a cell. `declared`: the matrix's rules for them; `unexpected`:
    the checks without a rule; `known`: the cause has a page."""

    cause: verdict.Cause
    declared: tuple[Pairs, ...]
    unexpected: tuple[str, ...]
    known: bool


@dataclass(frozen=True, kw_only=True)
class CellSection:
    """A cell on one device class, as its page shows it.

    - `answer`: the first lines, for the profile `default`; `instead`: better cells.
    - `features`: the table of features × families with their worst outcomes.
    - `conditions`: each with the checks that work under it, and their failures without it.
    - `stood_in`: what the stand-in for TE's extension means for the results, or empty.
    - `exports`: shell lines that set the variables; `repair`: the pin that makes checks work.
    - `flapping`: the checks whose outcome changed between runs, with their outcomes.
    - `stale`: why the result is out of date, or empty; `seconds`: how long the checks took.
    """

    result: Result
    counts: Counts
    answer: Markup
    instead: tuple[BetterCell, ...]
    features: Markup
    stood_in: str
    families: tuple[str, ...]
    table: Markup
    groups: tuple[Markup, ...]
    conditions: Markup
    exports: tuple[str, ...]
    flapping: Mapping[str, tuple[str, ...]]
    repair: Repair | None
    stale: str
    seconds: float


def pages(site: Site) -> Iterator[tuple[str, str]]:
    """`cells/NAME.html`."""
    for entry in site.entries.values():
        results = entry.by_class.values()
        tested = site.all_.environments.get(entry.name)
        yield (
            f"cells/{entry.name}.html",
            render(
                "cell.html",
                root="../",
                one=entry,
                outcomes=[(d, e.outcome.value) for d, e in entry.by_class.items()]
                or [("", CellOutcome.UNTESTED.value)],
                sections=[
                    section(site, e, site.stale.get((e.cell, e.device_class), "")) for e in results
                ],
                over=[o for o in site.all_.over if o.lock_of == entry.name],
                pinned=[_pin(axis, entry.pins[axis]) for axis in AXES],
                cuda=next((e.cuda for e in results), None),
                install=tested.install if tested else None,
                instead=() if entry.by_class else _instead(site, entry, site.device_class),
            ),
        )


@functools.cache
def _pin(axis: str, version: str) -> Markup:
    return part("pin.html", axis=axis, version=version, series=series_of(version))


def section(site: Site, e: Result, stale: str) -> CellSection:
    """The section of a result."""
    rules = site.all_.matrix.expected
    there = {cause.fingerprint for cause in causes_of(e.endings)}
    known = frozenset(there & site.all_.by_cause.keys())
    return CellSection(
        result=e,
        counts=counts(e),
        answer=_answer(tuple(answer.lines(e, rules, DEFAULT))),
        instead=_instead(site, site.entries.get(e.cell), e.device_class),
        features=_features(e.endings, e.device_class),
        stood_in=verdict.stood_in(e),
        families=e.families(),
        table=table(e),
        groups=_groups(e.endings, verdict.covering(e, rules), e.device_class, known),
        conditions=_conditions(e.endings, e.device_class),
        exports=plain_import.exports(e.variables or {}),
        flapping=verdict.flapping(e.checks),
        repair=None if e.base else site.all_.repairs.get((e.cell, e.device_class)),
        stale=stale,
        seconds=sum(c.seconds or 0 for c in e.checks),
    )


def _instead(site: Site, entry: Entry | None, device_class: str) -> tuple[BetterCell, ...]:
    """Better cells than this one; none for a compatible cell, or over a base (`entry` None)."""
    if entry is None or device_class not in site.better:
        return ()
    if entry.outcome(device_class) is CellOutcome.COMPATIBLE:
        return ()
    return site.better[device_class].of(entry.name, entry.pins)


def table(e: Result) -> Markup:
    """The rows of the table of checks: one for each kind, with a column for each family. Made here
    and not in a template for speed: a matrix has hundreds of thousands of squares, and in most
    cells they differ only by the time that the checks took.
    """
    text, order = _table(e.endings, e.device_class)
    seconds = {c.check: c.seconds for c in e.checks}
    times = (f"{seconds[check]:g}" for check in order)
    parts = itertools.chain.from_iterable(zip(text[:-1], times, strict=True))
    return Markup("".join((*parts, text[-1])))


@functools.cache
def _table(endings: CheckEndings, device_class: str) -> tuple[list[str], list[str]]:
    """The table around the times of the checks, and the checks in their order."""
    families = endings.families
    lines: list[Markup] = []
    order = []
    for feature, kinds in verdict.by_feature(endings.checks).items():
        if feature:
            lines.append(_feature(feature, (len(families) or 1) + 2))
        for kind, results in kinds.items():
            lines.append(_head(kind))
            for family in [""] if "" in results else families:
                if check := results.get(family):
                    columns = 1 if family else len(families) or 1
                    lines.append(_square_of(check, device_class, columns))
                    order.append(check.check)
                else:
                    lines.append(_NONE)
            lines += [_reasons(_why(results)), _END]
    return "".join(lines).split(_TIME), order


_TIME = "\0"
"""Stands for the time of a check; no text on a page has this character (`rendering.shown`)."""

_END = Markup("</tr>\n")
_NONE = Markup('<td class="o-none"><span class="vh">not run</span></td>')


@functools.cache
def _feature(name: str, columns: int) -> Markup:
    return Markup('<tr class="feature"><th scope="rowgroup" colspan="{}">{}</th></tr>\n').format(
        columns, shown(name)
    )


@functools.cache
def _head(kind: str) -> Markup:
    return Markup('<tr><th scope="row">{}</th>').format(shown(kind))


def _square_of(c: CheckResult, device_class: str, columns: int) -> Markup:
    cause = c.failure.fingerprint if c.failure else ""
    cause = CheckOutcome.WORKS_WITH.value if c.condition else cause  # the anchor on the page
    return _square(c.outcome.value, cause, device_class, columns)


@functools.cache
def _square(outcome: str, part: str, device_class: str, columns: int) -> Markup:
    words = Markup('<span class="sym" aria-hidden="true">{}</span> {}').format(
        verdict.SYMBOLS[outcome], outcome
    )
    if part:
        words = Markup('<a href="#{}-{}">{}</a>').format(device_class, part, words)
    span = Markup(' colspan="{}"').format(columns) if columns > 1 else ""
    return Markup('<td{} class="o-{}">{} <small>{} s</small></td>').format(
        span, outcome, words, Markup(_TIME)
    )


def _why(results: Mapping[str, CheckResult]) -> tuple[tuple[str, str], ...]:
    """The reasons for the outcomes of checks, each with its families unless it holds for all."""
    reasons: dict[str, list[str]] = {}
    for family, c in results.items():
        if c.reason and not c.failure:
            reasons.setdefault(c.reason, []).append(family)
    return tuple(
        (reason, ", ".join(given) if len(given) < len(results) else "")
        for reason, given in reasons.items()
    )


@functools.cache
def _reasons(why: tuple[tuple[str, str], ...]) -> Markup:
    return Markup('<td class="why">{}</td>').format(
        Markup("; ").join(
            Markup('<span class="foreign">{}{}</span>').format(
                f"{families}: " if families else "", shown(reason)
            )
            for reason, families in why
        )
    )


# The parts of a page that follow from how the checks ended are made once for all equal cells.


@functools.cache
def _answer(lines: tuple[tuple[str, str], ...]) -> Markup:
    return part("answer.html", lines=lines)


@functools.cache
def _features(endings: CheckEndings, device_class: str) -> Markup:
    families, rows = answer.table(endings)
    return part("features.html", families=families, rows=rows, device_class=device_class)


@functools.cache
def _conditions(endings: CheckEndings, device_class: str) -> Markup:
    conditions = [
        (condition, tuple(c.check for c in checks), verdict.refusals(checks))
        for condition, checks in verdict.conditions(endings.checks).items()
    ]
    if not conditions:
        return Markup()
    return part("conditions.html", conditions=conditions, device_class=device_class)


@functools.cache
def _groups(
    endings: CheckEndings, rules: tuple[Pairs, ...], device_class: str, known: frozenset[str]
) -> tuple[Markup, ...]:
    """The parts of the page about causes; `rules`: those that cover the cell, `known`: the
    fingerprints of causes that have a page."""
    checks = {c.check: c for c in endings.checks}
    parts = []
    for cause in causes_of(endings):
        by_check = {c: verdict.declaring(c, checks[c], rules) for c in cause.checks}
        group = Group(
            cause=cause,
            declared=tuple(dict.fromkeys(rule for rule in by_check.values() if rule)),
            unexpected=tuple(check for check, rule in by_check.items() if rule is None),
            known=cause.fingerprint in known,
        )
        parts.append(part("group.html", g=group, device_class=device_class, root="../"))
    return tuple(parts)
