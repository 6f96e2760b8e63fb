"""Collated → `COMPATIBILITY.md`: a page for people; the details are in the data and the site.
Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from packaging.version import Version

from mcore_compat.analysis.declarations import OUT
from mcore_compat.analysis.interfaces import words as wording
from mcore_compat.analysis.interfaces.changes import InterfaceChange as Change
from mcore_compat.core.cells import AXES
from mcore_compat.core.outcomes import CORE_KIND, CellOutcome, CheckOutcome
from mcore_compat.publish import issue_drafts, over_base, pictures
from mcore_compat.publish.collation import INTERVAL_AXES, Collated, SeenCause, counts, order
from mcore_compat.publish.over_base import OverBase
from mcore_compat.publish.rendering import render
from mcore_compat.results import levels, verdict
from mcore_compat.results.levels import Level, Note
from mcore_compat.results.result import Result

NAME = "COMPATIBILITY.md"


def markdown(all_: Collated) -> str:
    """The text of `reports/COMPATIBILITY.md`."""
    classes = all_.classes or ("host",)
    return render(
        "compatibility_page.md",
        sections=[
            (name, _pairs(all_, name), _restores(all_, name), _reaches(all_, name))
            for name in classes
        ],
        on_gpu="gpu" in {*all_.classes, *(o.result.device_class for o in all_.over)},
        device_classes=classes,
        causes=list(_causes(all_)),
        stopped=_stopped(all_.ordered),
        left_out=_left_out(all_),
        undeclared=list(_undeclared(all_)),
        drift=_drift(all_.drift),
        over=[(over, counts(over.result), _over(over)) for over in all_.over],
    )


def _pairs(all_: Collated, device_class: str) -> dict[str, Any]:
    """The table of pairs of series on their default stacks; `rows` are by megatron-core series."""
    rules = all_.matrix.expected
    cells = pictures.pairs(all_.by_class.get(device_class, ()))
    squares = pictures.squares(cells.values(), rules)
    columns = [s for s in all_.matrix.modelopt_series if any(pair[1] == s for pair in cells)]
    declared = {cell.name for cell in all_.cells if cell.default} | {e.cell for e in cells.values()}
    none = levels.square(None)
    rows, notes = {}, {}
    for mcore in reversed(all_.matrix.mcore_series):
        best = levels.best_of(squares, mcore, columns)
        rows[mcore] = [
            (squares.get((mcore, modelopt), none), modelopt == best)
            for modelopt in reversed(columns)
        ]
        mine = [e for pair, e in cells.items() if pair[0] == mcore]
        notes[mcore] = levels.notes(mine, rules)
    there = {square.level for line in rows.values() for square, _ in line}
    return {
        "asked": len(cells),
        "declared": len(declared),
        "columns": [*reversed(columns)],
        "gpu": any(
            "GPU" in line.split() for s in squares.values() for line in s.lines if "/" in line
        ),
        "rows": rows,
        "notes": _together(notes),
        "levels": [level for level in Level if level in there],
    }


def _together(notes: Mapping[str, Sequence[Note]]) -> dict[str, str]:
    """Notes that hold for whole rows, each once: by text, the rows; adjacent rows become a
    range."""
    texts = dict.fromkeys(note.text for found in notes.values() for note in found)
    said: dict[str, str] = {}
    for text in texts:
        line = [(text in {note.text for note in found}, row) for row, found in notes.items()]
        runs = levels.runs([("alike" if alike else "", row) for alike, row in line])
        said[text] = ", ".join(rows for alike, rows in runs if alike)
    return said


def _restores(all_: Collated, device_class: str) -> dict[str, Any]:
    """The ModelOpt series with which each family's checkpoint restores, by megatron-core series.
    `others`: cells on a non-default stack that ran checks, by the outcomes of their families."""
    results = all_.by_class.get(device_class, ())
    families = sorted({family for e in results for family in e.families()})
    pairs = pictures.pairs(results)
    rows = {}
    for mcore in all_.matrix.mcore_series:
        mine = {m: _core(e) for (row, m), e in pairs.items() if row == mcore and e.checks}
        if mine:
            columns = [m for m in all_.matrix.modelopt_series if m in mine]
            rows[mcore] = [
                ", ".join(_runs([(mine[m].get(family), m) for m in columns])) for family in families
            ]
    default = {e.cell for e in pairs.values()}
    others: dict[str, list[str]] = {}
    for e in sorted(results, key=order):
        if e.checks and e.cell not in default:
            by_outcome: dict[CheckOutcome, list[str]] = {}
            for family, outcome in sorted(_core(e).items()):
                by_outcome.setdefault(outcome, []).append(family)
            ends = (f"{verdict.spelt(o)}: {', '.join(f)}" for o, f in by_outcome.items())
            others.setdefault("; ".join(ends), []).append(e.cell)
    return {"families": families, "rows": rows, "others": others}


def _core(e: Result) -> dict[str, CheckOutcome]:
    return {c.family or "": c.outcome for c in e.checks if c.kind == CORE_KIND}


def _runs(row: Sequence[tuple[CheckOutcome | None, str]]) -> Iterator[str]:
    """Ranges of adjacent series with the same outcome: `✗ 0.21 to 0.33`."""
    for outcome, run in groupby(row, key=lambda result: result[0]):
        if outcome is not None:
            series = [name for _, name in run]
            yield f"{verdict.SYMBOLS[outcome.value]} {pictures.span(series)}"


def _reaches(all_: Collated, device_class: str) -> dict[tuple[str | int, ...], list[str]]:
    """The releases of each axis with which checkpoints restore, each with its families: the first
    and the last one, the one from which restore is broken, those at which some cells fail, and the
    number of untested ones in between."""
    rows: dict[tuple[str | int, ...], list[str]] = {}
    for axis in INTERVAL_AXES:
        for interval in all_.intervals.get((device_class, axis), ()):
            if interval.kind == CORE_KIND:
                some = interval.partial
                key = (
                    axis,
                    interval.version_added,
                    interval.version_last,
                    interval.version_removed or "not known",
                    f"{len(some)}: {pictures.span(some)}" if len(some) > 1 else "".join(some),
                    len(interval.not_tested),
                )
                rows.setdefault(key, []).append(interval.family or "")
    return rows


def _causes(all_: Collated) -> Iterator[tuple[SeenCause, str, str]]:
    """Each cause with the kind of its finding and the path of its issue draft, or empty."""
    findings = {finding.fingerprint: finding for finding in all_.findings}
    for cause in all_.failures:
        finding = findings.get(cause.cause.fingerprint)
        draft = issue_drafts.path(finding) if finding and issue_drafts.wanted(finding) else ""
        yield cause, finding.kind if finding else "", draft


def _stopped(results: Iterable[Result]) -> Mapping[tuple[CellOutcome, str], list[str]]:
    """Cells that ran no checks, by outcome and reason."""
    rows: dict[tuple[CellOutcome, str], list[str]] = {}
    for e in results:
        if e.reason:
            rows.setdefault((e.outcome, e.reason.message), []).append(e.cell)
    return rows


def _left_out(all_: Collated) -> list[tuple[str, list[tuple[str, int, str]]]]:
    """By release: the versions that its declared ranges exclude although they work, the number of
    cells, and the path of the issue draft."""
    rows: dict[str, list[tuple[str, int, str]]] = {}
    for finding in all_.findings:
        if finding.kind == OUT:
            release, _, other = finding.subject.partition(" with ")
            row = other, len(finding.cells), issue_drafts.path(finding)
            rows.setdefault(release, []).append(row)
    return sorted(rows.items())


def _undeclared(all_: Collated) -> Iterator[tuple[str, str, str, list[str], str]]:
    """Imports that no requirement declares: the package, what it imports, in which module, in which
    of its releases, and the path of the issue draft."""
    drafts = {f.subject: issue_drafts.path(f) for f in all_.findings if f.imported_in}
    rows: dict[tuple[str, str, str], set[str]] = {}
    for e in all_.found:
        for row in verdict.undeclared(e):
            rows.setdefault(row, set()).add(e.pins.get(row[0], "") or e.installed.get(row[0], ""))
    for (package, requires, module), versions in sorted(rows.items()):
        draft = drafts.get(f"{package} imports {requires}", "")
        yield package, requires, module, sorted(filter(None, versions), key=Version), draft


def _over(over: OverBase) -> Iterator[tuple[str, str]]:
    """The facts about a result over a base: name and text."""
    e = over.result
    if e.platform.get("gpu"):
        yield "GPU", over_base.gpu(e.platform)
    yield from over_base.facts(e.base)
    for cause in verdict.causes(e.checks):
        yield f"fails, {', '.join(cause.checks)}", f"{cause.type}: {verdict.gist(cause.message)}"


def _drift(changes: Sequence[Change]) -> list[tuple[tuple[str, str, str], Counter[str]]]:
    """By package and pair of releases: how many functions and specs changed, by whether the change
    breaks callers."""
    steps: dict[tuple[str, str, str], dict[str, list[Change]]] = {}
    for change in changes:
        key = change.subject.package, change.before, change.after
        steps.setdefault(key, {}).setdefault(change.subject.name, []).append(change)
    rows = {
        step: Counter(
            wording.breaks([c.what for c in mine]).partition(":")[0] for mine in by_subject.values()
        )
        for step, by_subject in steps.items()
    }
    return sorted(rows.items(), key=lambda row: (AXES.index(row[0][0]), Version(row[0][1])))
