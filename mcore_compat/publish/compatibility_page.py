"""Collated → what `COMPATIBILITY.md` shows: a page for a person, details are beside it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from packaging.version import Version

from mcore_compat.analysis.declarations import KEPT, OUT
from mcore_compat.analysis.interfaces import words as wording
from mcore_compat.analysis.interfaces.changes import InterfaceChange as Change
from mcore_compat.core.cells import AXES
from mcore_compat.core.outcomes import CORE_KIND, CellOutcome, CheckOutcome
from mcore_compat.publish import issue_drafts, over_base, pictures
from mcore_compat.publish.collation import INTERVAL_AXES, Collated, counts, order
from mcore_compat.publish.over_base import OverBase
from mcore_compat.publish.rendering import render
from mcore_compat.results import verdict
from mcore_compat.results.evidence import Evidence
from mcore_compat.results.verdict import Cause

NAME = "COMPATIBILITY.md"


@dataclass(frozen=True, kw_only=True)
class PairTable:
    """The pairs of series on their default stacks: `rows` by series of megatron-core."""

    asked: int
    declared: int
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class RestoreTable:
    """With which ModelOpt each family's checkpoint restores, by series of megatron-core; `others`:
    cells on another stack that came to their checks, by how their families end."""

    families: tuple[str, ...]
    rows: Mapping[str, tuple[str, ...]]
    others: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Reach:
    """From which release of an axis to which the checkpoint of `families` restores."""

    families: tuple[str, ...]
    axis: str
    first: str
    last: str
    broken_from: str
    partial: str
    untested: int


@dataclass(frozen=True, kw_only=True)
class CauseLine:
    """A cause of failures: `where` counts its cells by device class, `rules` are the smallest ones
    by device class, each list of those that cannot be told apart."""

    cause: Cause
    where: Mapping[str, int]
    kinds: tuple[str, ...]
    rules: Mapping[str, tuple[tuple[str, ...], ...]]
    unexpected: int
    declared: str
    draft: str


@dataclass(frozen=True, kw_only=True)
class DriftStep:
    """How many functions and specs changed between two releases of a package, by what that means
    for callers."""

    package: str
    before: str
    after: str
    breaking: int
    by_position: int
    others: int


@dataclass(frozen=True, kw_only=True)
class UndeclaredImport:
    """Something that a package imports and no requirement of it asks for."""

    package: str
    requires: str
    module: str
    versions: tuple[str, ...]
    draft: str


def markdown(all_: Collated) -> str:
    """`reports/COMPATIBILITY.md`."""
    classes = all_.classes or ("host",)
    return render(
        "compatibility_page.md",
        sections=[
            (name, _pairs(all_, name), _restores(all_, name), _reaches(all_, name))
            for name in classes
        ],
        on_gpu="gpu" in {*all_.classes, *(o.evidence.device_class for o in all_.over)},
        device_classes=classes,
        causes=list(_causes(all_)),
        stopped=_stopped(all_.ordered),
        left_out=_left_out(all_),
        undeclared=list(_undeclared(all_)),
        drift=_drift(all_.drift),
        over=[(one, counts(one.evidence), _over(one)) for one in all_.over],
        over_intro=over_base.INTRO,
    )


def _pairs(all_: Collated, device_class: str) -> PairTable:
    found = pictures.pairs(all_.by_class.get(device_class, ()))
    columns = tuple(s for s in all_.matrix.modelopt_series if any(pair[1] == s for pair in found))
    names = {cell.name for cell in all_.cells if cell.default}
    rows = {}
    for mcore in all_.matrix.mcore_series:
        cells = (found.get((mcore, modelopt)) for modelopt in columns)
        rows[mcore] = tuple(pictures.pair_label(e) for e in cells)
    return PairTable(
        asked=len(found),
        declared=len(names | {e.cell for e in found.values()}),
        columns=columns,
        rows=rows,
    )


def _restores(all_: Collated, device_class: str) -> RestoreTable:
    found = all_.by_class.get(device_class, ())
    families = tuple(sorted({c.family for e in found for c in e.checks if c.family}))
    pairs = pictures.pairs(found)
    rows = {}
    for mcore in all_.matrix.mcore_series:
        mine = {m: _core(e) for (row, m), e in pairs.items() if row == mcore and e.checks}
        if mine:
            columns = [m for m in all_.matrix.modelopt_series if m in mine]
            rows[mcore] = tuple(
                ", ".join(_runs([(mine[m].get(family), m) for m in columns])) for family in families
            )
    default = {e.cell for e in pairs.values()}
    others: dict[str, list[str]] = {}
    for e in sorted(found, key=order):
        if e.checks and e.cell not in default:
            by_outcome: dict[CheckOutcome, list[str]] = {}
            for family, outcome in sorted(_core(e).items()):
                by_outcome.setdefault(outcome, []).append(family)
            said = (f"{verdict.spelt(o)}: {', '.join(f)}" for o, f in by_outcome.items())
            others.setdefault("; ".join(said), []).append(e.cell)
    return RestoreTable(
        families=families, rows=rows, others={text: tuple(cells) for text, cells in others.items()}
    )


def _core(e: Evidence) -> dict[str, CheckOutcome]:
    return {c.family or "": c.outcome for c in e.checks if c.kind == CORE_KIND}


def _runs(row: Sequence[tuple[CheckOutcome | None, str]]) -> Iterator[str]:
    """`✗ 0.21 to 0.33`: neighbours that ended alike together."""
    for outcome, run in groupby(row, key=lambda one: one[0]):
        if outcome is not None:
            series = [name for _, name in run]
            yield f"{verdict.SYMBOLS[outcome.value]} {pictures.span(series)}"


def _reaches(all_: Collated, device_class: str) -> list[Reach]:
    rows: dict[tuple[str, str, str, str, str, int], list[str]] = {}
    for axis in INTERVAL_AXES:
        for interval in all_.intervals.get((device_class, axis), ()):
            if interval.kind == CORE_KIND:
                some = interval.partial
                key = (
                    axis,
                    interval.version_added or "none",
                    interval.version_last or "none",
                    interval.version_removed or "not known",
                    f"{len(some)}: {pictures.span(some)}" if len(some) > 1 else "".join(some),
                    len(interval.not_tested),
                )
                rows.setdefault(key, []).append(interval.family or "")
    return [
        Reach(
            axis=axis,
            families=tuple(families),
            first=first,
            last=last,
            broken_from=broken_from,
            partial=partial or "none",
            untested=untested,
        )
        for (axis, first, last, broken_from, partial, untested), families in rows.items()
    ]


def _causes(all_: Collated) -> Iterator[CauseLine]:
    """The one that was seen in most cells first."""
    explained = {
        (device_class, one.fingerprint): one
        for device_class in all_.classes
        for one in all_.explained[device_class]
    }
    findings = {one.fingerprint: one for one in all_.findings if one.fingerprint}
    rules = all_.matrix.expected
    for fingerprint, members in sorted(all_.by_cause.items(), key=lambda g: (-len(g[1]), g[0])):
        classes = [e.device_class for e, _ in members]
        finding = findings.get(fingerprint)
        checks = {check for _, cause in members for check in cause.checks}
        fits = {name: explained[name, fingerprint].rivals() for name in sorted(set(classes))}
        yield CauseLine(
            cause=members[0][1],
            where={name: classes.count(name) for name in fits},
            kinds=tuple(sorted({check.partition("[")[0] for check in checks})),
            rules={
                name: tuple(tuple(rule.text() for rule in fit) for fit in rivals)
                for name, rivals in fits.items()
            },
            unexpected=sum(
                any(verdict.rule_for(e, check, rules) is None for check in cause.checks)
                for e, cause in members
            ),
            declared=finding.kind if finding else "",
            draft=issue_drafts.path(finding) if finding and finding.kind != KEPT else "",
        )


def _stopped(found: Iterable[Evidence]) -> Mapping[tuple[CellOutcome, str], tuple[str, ...]]:
    """Cells that did not come to their checks, by outcome and reason."""
    rows: dict[tuple[CellOutcome, str], list[str]] = {}
    for e in found:
        if e.reason:
            rows.setdefault((e.outcome, e.reason.message), []).append(e.cell)
    return {key: tuple(cells) for key, cells in rows.items()}


def _left_out(all_: Collated) -> Mapping[str, tuple[tuple[str, int, str], ...]]:
    """By release: what its declared ranges leave out although it works, in how many cells, and
    the draft that says so."""
    rows: dict[str, list[tuple[str, int, str]]] = {}
    for finding in all_.findings:
        if finding.kind == OUT:
            release, _, other = finding.subject.partition(" with ")
            rows.setdefault(release, []).append(
                (other, len(finding.cells), issue_drafts.path(finding))
            )
    return {release: tuple(rows[release]) for release in sorted(rows)}


def _undeclared(all_: Collated) -> Iterator[UndeclaredImport]:
    drafts = {one.subject: issue_drafts.path(one) for one in all_.findings if one.imported_in}
    rows: dict[tuple[str, str, str], set[str]] = {}
    for e in all_.found:
        for row in verdict.undeclared(e):
            rows.setdefault(row, set()).add(e.pins.get(row[0], "") or e.installed.get(row[0], ""))
    for (package, requires, module), versions in sorted(rows.items()):
        yield UndeclaredImport(
            package=package,
            requires=requires,
            module=module,
            versions=tuple(sorted(filter(None, versions), key=Version)),
            draft=drafts.get(f"{package} imports {requires}", ""),
        )


def _over(one: OverBase) -> Iterator[tuple[str, str]]:
    """What is told of a result over a base, each with its name."""
    e = one.evidence
    if e.platform.get("gpu"):
        yield "GPU", over_base.gpu(e.platform)
    yield from over_base.facts(e.base or {})
    for cause in verdict.causes(e.checks):
        yield f"fails, {', '.join(cause.checks)}", f"{cause.type}: {verdict.gist(cause.message)}"


def _drift(changes: Sequence[Change]) -> list[DriftStep]:
    steps: dict[tuple[str, str, str], dict[str, list[Change]]] = {}
    for change in changes:
        key = change.subject.package, change.before, change.after
        steps.setdefault(key, {}).setdefault(change.subject.name, []).append(change)
    rows = []
    for (package, before, after), by_subject in steps.items():
        words = [wording.breaks([c.what for c in mine]) for mine in by_subject.values()]
        told = [text.partition(":")[0] for text in words]
        rows.append(
            DriftStep(
                package=package,
                before=before,
                after=after,
                breaking=told.count("yes"),
                by_position=told.count("only by position"),
                others=told.count("no"),
            )
        )
    return sorted(rows, key=lambda s: (AXES.index(s.package), Version(s.before)))
