"""Stage evidence → publish: the table and its data, from evidence alone. Pure but for `write`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from packaging.version import Version

from mcore_compat.analysis import explanation
from mcore_compat.analysis.interfaces import changes as interfaces
from mcore_compat.base import files
from mcore_compat.base.markup import escape as escape
from mcore_compat.core.cells import AXES, Cell
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.outcomes import CORE_KIND, FAILURES, CellOutcome, CheckOutcome
from mcore_compat.publish import data, issue_drafts, over_base, pictures, tables
from mcore_compat.publish.collation import INTERVAL_AXES, Collated
from mcore_compat.results import verdict
from mcore_compat.results.evidence import Evidence

FOLDER = files.ROOT / "reports"
TABLE = "COMPATIBILITY.md"
MADE_BY = "Made by `nox -s report` from `reports/evidence/`; not edited by hand."


NEVER_ON_A_GPU = (
    "**Nothing of this was run on a GPU**: there is no evidence of the device class `gpu`. See\n"
    "`GPU.md` for what is to be asked there, and `RANKS.md` for models over several ranks."
)


def markdown(all_: Collated) -> str:
    """`reports/COMPATIBILITY.md`."""
    parts = ["# Compatibility of megatron-core and ModelOpt", "", MADE_BY, ""]
    parts += _legend({*all_.classes, *(o.evidence.device_class for o in all_.over)})
    for device_class in all_.classes or ("host",):
        chosen = all_.by_class.get(device_class, ())
        parts += _matrix_table(chosen, all_.cells, all_.matrix, device_class)
        parts += _cells_table(chosen, device_class)
        parts += _families_table(chosen, device_class)
        parts += _intervals_table(all_, device_class)
    parts += over_base.lines(all_.over)
    parts += interfaces.lines(all_.drift)
    parts += _broken(all_)
    parts += issue_drafts.lines(all_.findings)
    parts += _not_run(all_.found)
    parts += _undeclared(all_.found)
    parts += [
        "## How to repeat any of this",
        "",
        "`nox -s CELL -- --force` in a checkout of this repository; the cell's lock is",
        "`constraints/locks/CELL.txt`, its evidence `reports/evidence/CELL/`.",
        "",
    ]
    return "\n".join(parts)


def _legend(classes: Iterable[str]) -> list[str]:
    def row(outcomes: type[CheckOutcome] | type[CellOutcome]) -> str:
        return ", ".join(verdict.spelt(outcome) for outcome in outcomes)

    return [
        f"Cells: {row(CellOutcome)}.",
        "",
        f"Checks: {row(CheckOutcome)}. `needs-gpu` could not be asked without a",
        "GPU and never counts as `works`. Evidence of the device class `host` was taken without a",
        "GPU: real packages, real tensors, real checkpoints; no kernel ran.",
        "",
        *([] if "gpu" in classes else [NEVER_ON_A_GPU, ""]),
    ]


def _matrix_table(
    found: Sequence[Evidence], cells: Sequence[Cell], matrix: Matrix, device_class: str
) -> list[str]:
    table = pictures.pairs(found)
    columns = [s for s in matrix.modelopt_series if any(pair[1] == s for pair in table)]
    lines = [f"## megatron-core × ModelOpt, device class `{device_class}`", ""]
    rest = len({c.name for c in cells if c.default} - {e.cell for e in table.values()})
    lines += [
        f"{len(table)} of {len(table) + rest} default pairs have evidence; the others are",
        "`· untested`. ModelOpt series without any evidence are left out of the columns.",
        "",
        "| megatron-core | " + " | ".join(columns) + " |",
        "| --- |" + " --- |" * len(columns),
    ]
    for mcore in matrix.mcore_series:
        row = []
        for modelopt in columns:
            evidence = table.get((mcore, modelopt))
            outcome = evidence.outcome if evidence else CellOutcome.UNTESTED
            row.append(verdict.spelt(outcome))
        lines.append(f"| {mcore} | " + " | ".join(row) + " |")
    return [*lines, ""]


def _order(e: Evidence) -> tuple[Version, Version, str]:
    return Version(e.pins["megatron-core"]), Version(e.pins["nvidia-modelopt"]), e.cell


def _cells_table(found: Sequence[Evidence], device_class: str) -> list[str]:
    lines = [
        f"## Cells and their stacks, device class `{device_class}`",
        "",
        "| cell | outcome | megatron-core | ModelOpt | TE | torch | python | works | fails | "
        "needs GPU | taken |",
        "| --- | --- | --- | --- | --- | --- | --- | ---: | ---: | ---: | --- |",
    ]
    for e in sorted(found, key=_order):
        outcomes = [c.outcome for c in e.checks]
        failed = sum(o in FAILURES or o is CheckOutcome.BLOCKED for o in outcomes)
        lines.append(
            f"| `{e.cell}` | {verdict.spelt(e.outcome)} | "
            + " | ".join(e.pins[axis] for axis in AXES)
            + f" | {outcomes.count(CheckOutcome.WORKS)} | {failed}"
            f" | {outcomes.count(CheckOutcome.NEEDS_GPU)} | {e.taken[:10]} |"
        )
    return [*lines, ""]


def _families_table(found: Sequence[Evidence], device_class: str) -> list[str]:
    families = sorted({c.family for e in found for c in e.checks if c.family})
    lines = [
        f"## Does the checkpoint restore? (`{CORE_KIND}`, device class `{device_class}`)",
        "",
        "| cell | " + " | ".join(families) + " |",
        "| --- |" + " --- |" * len(families),
    ]
    for e in sorted(found, key=_order):
        core = {c.family: c.outcome for c in e.checks if c.kind == CORE_KIND}
        row = [verdict.spelt(core[f]) if f in core else "" for f in families]
        lines.append(f"| `{e.cell}` | " + " | ".join(row) + " |")
    return [*lines, ""]


def _intervals_table(all_: Collated, device_class: str) -> list[str]:
    lines = [
        f"## From which release to which (`{CORE_KIND}`, device class `{device_class}`)",
        "",
        "Known good at the first and the last release named, and at every tested one between. `≤`:",
        "older releases were not tested. Nothing is said of a release that was not tested, nor of",
        "one that was asked and could not say; `compatibility.json` has the same for every check.",
        "",
        "| family | axis | first known good | last known good | known broken from | fails in some "
        "cells at | not tested between | could not say |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for axis in INTERVAL_AXES:
        for one in all_.intervals.get((device_class, axis), ()):
            if one.kind == CORE_KIND:
                gap = ", ".join(one.not_tested) or "none"
                lines.append(
                    f"| {one.family} | {axis} | {one.version_added} | {one.version_last} | "
                    f"{one.version_removed or 'not known'} | "
                    f"{', '.join(one.partial) or 'none'} | {gap} | "
                    f"{'; '.join(one.notes) or 'none'} |"
                )
    return [*lines, ""]


def _broken(all_: Collated) -> list[str]:
    rules = {
        (device_class, one.fingerprint): one
        for device_class in all_.classes
        for one in all_.explained[device_class]
    }
    lines = ["## What is broken, and why", ""]
    if not all_.by_cause:
        return [*lines, "Nothing that was tested.", ""]
    for fingerprint, members in sorted(all_.by_cause.items(), key=lambda g: (-len(g[1]), g[0])):
        cause = members[0][1]
        checks = sorted({check for _, c in members for check in c.checks})
        lines += [
            f"### {escape(cause.type)} in {escape(cause.frame or 'unknown')}",
            "",
            f"- message: {escape(verdict.gist(cause.message))}",
            f"- fingerprint: `{fingerprint}`",
            f"- checks: {', '.join(f'`{c}`' for c in checks)}",
            f"- cells: {', '.join(f'`{e.cell}` ({e.device_class})' for e, _ in members)}",
        ]
        if cause.gpu_independent:
            lines.append(f"- the same with a GPU: {escape(cause.gpu_independent)}")
        reasons = [r for e, c in members for r in verdict.declared(e, c, all_.matrix.expected)]
        lines += [f"- declared: {escape(reason)}" for reason in dict.fromkeys(reasons)]
        for device_class in sorted({e.device_class for e, _ in members}):
            said = explanation.lines(rules[device_class, fingerprint])
            lines += [f"- {device_class}: {escape(line)}" for line in said]
        lines.append("")
    return lines


def _not_run(found: Sequence[Evidence]) -> list[str]:
    stopped = [e for e in sorted(found, key=_order) if e.reason]
    if not stopped:
        return []
    lines = ["## Cells that did not come to their checks", ""]
    for e in stopped:
        assert e.reason is not None
        lines.append(f"- `{e.cell}`: {verdict.spelt(e.outcome)}: {escape(e.reason.message)}")
    return [*lines, ""]


def _undeclared(found: Sequence[Evidence]) -> list[str]:
    rows: dict[tuple[str, str, str], set[str]] = {}
    for e in found:
        for row in verdict.undeclared(e):
            rows.setdefault(row, set()).add(e.pins.get(row[0], "") or e.installed.get(row[0], ""))
    lines = ["## Undeclared requirements", ""]
    if not rows:
        return [*lines, "None was seen.", ""]
    lines += [
        "Imported without a guard by modules on the suite's path, and asked for by no requirement.",
        "",
        "| package | its releases | imports | in |",
        "| --- | --- | --- | --- |",
    ]
    for (package, requires, module), versions in sorted(rows.items()):
        seen = ", ".join(sorted((v for v in versions if v), key=Version))
        lines.append(f"| {escape(package)} | {seen} | {escape(requires)} | {escape(module)} |")
    return [*lines, ""]


def texts(all_: Collated) -> dict[Path, Callable[[], str | Iterable[str]]]:
    """Every published file and how its text, or its pieces, are made; all but the site."""
    verdicts: dict[str, dict[str, str]] = {}
    for e in all_.found:
        verdicts.setdefault(e.cell, {})[e.device_class] = e.outcome.value
    by_name = {e.cell: e for e in all_.found}
    told = issue_drafts.texts(all_.findings, by_name)
    return {
        **{
            FOLDER / issue_drafts.FOLDER / name: functools.partial(str, t)
            for name, t in told.items()
        },
        FOLDER / TABLE: lambda: markdown(all_),
        FOLDER / data.NAME: lambda: data.parts(all_),
        FOLDER / data.SCHEMA.name: lambda: data.SCHEMA.read_text(encoding="utf-8"),
        FOLDER / "compatibility.csv": lambda: tables.csv_text(all_.found),
        **{
            FOLDER / tables.CONSTRAINTS / f"{name}.txt": functools.partial(str, text)
            for name, text in tables.constraints(all_.found).items()
        },
        **{FOLDER / name: functools.partial(str, t) for name, t in pictures.texts(all_).items()},
        FOLDER / "verdicts.json": lambda: verdict.index_text(verdicts),
    }


def drift(made: Mapping[Path, Callable[[], str | Iterable[str]]]) -> list[Path]:
    """The published files that are not what the evidence makes."""
    changed = [
        path
        for path, make in made.items()
        if not path.exists() or path.read_text(encoding="utf-8") != "".join(make())
    ]
    return [*changed, *_outdated(made)]


def _outdated(made: Mapping[Path, Callable[[], str | Iterable[str]]]) -> list[Path]:
    """Texts of findings, constraints of cells, and pictures, that are none any more."""
    roots = [path.parent for path in made if path.name == TABLE]
    kinds = (
        f"{issue_drafts.FOLDER}/*.md",
        f"{tables.CONSTRAINTS}/*.txt",
        f"{pictures.PICTURES}/*.svg",
        f"{pictures.BADGES}/*/*.*",
    )
    return sorted(p for root in roots for kind in kinds for p in root.glob(kind) if p not in made)


def write(made: Mapping[Path, Callable[[], str | Iterable[str]]]) -> None:
    """Write every published file, each whole or not at all."""
    for path, make in made.items():
        text = make()
        same = isinstance(text, str) and path.exists() and path.read_text("utf-8") == text
        if not same:  # else of thousands of files each would be put in the place of its equal
            files.write_text(path, text, durable=False)  # made again from evidence at any time
    for path in _outdated(made):
        path.unlink()
