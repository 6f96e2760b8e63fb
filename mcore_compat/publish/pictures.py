"""Stage evidence → pictures: the matrix as SVG, badges as SVG and for the shields endpoint. Pure.

The endpoint's form: https://shields.io/badges/endpoint-badge, version 1 of its schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from mcore_compat.core.cells import parsed, series_of
from mcore_compat.core.outcomes import CORE_KIND, HOLDS, CellOutcome, CheckOutcome
from mcore_compat.publish.collation import Collated
from mcore_compat.publish.rendering import render, shown
from mcore_compat.results import verdict
from mcore_compat.results.evidence import Evidence

PICTURES, BADGES = "pictures", "badges"
"""Folders beside the report."""

FILLS = {
    "compatible": ("#1a7f37", "#ffffff", "#2ea043", "#0d1117"),
    "partial": ("#f2cc60", "#1f2328", "#d29922", "#0d1117"),
    "incompatible": ("#b3261e", "#ffffff", "#ff8b82", "#0d1117"),
    "unresolvable": ("#d0d7de", "#1f2328", "#484f58", "#f0f6fc"),
    "unbuildable": ("#d0d7de", "#1f2328", "#484f58", "#f0f6fc"),
    "untested": ("#ffffff", "#57606a", "#161b22", "#9ea7b3"),
}
"""By outcome: square and text in light, then in dark; text is at least 4.5:1 on its square."""

_COLORS = {"green": "#1a7f37", "yellow": "#f2cc60", "red": "#b3261e", "grey": "#57606a"}

Table = Mapping[tuple[str, str], Evidence]

Badge = tuple[str, str, str]
"""Label, message, colour."""


def texts(all_: Collated) -> dict[str, str]:
    """Every picture's text by its path beside the report."""
    by_path: dict[str, str] = {}
    for device_class in all_.classes:
        table = pairs(all_.by_class[device_class])
        rows, columns = all_.matrix.mcore_series, all_.matrix.modelopt_series
        by_path[f"{PICTURES}/matrix-{device_class}.svg"] = matrix(
            table, rows, columns, device_class
        )
        for name, (label, message, color) in badges(table, rows, columns, device_class).items():
            stem = f"{BADGES}/{device_class}/{name}"
            by_path[f"{stem}.svg"] = badge(label, message, color)
            by_path[f"{stem}.json"] = endpoint(label, message, color)
    return dict(sorted(by_path.items()))


def pairs(results: Iterable[Evidence]) -> dict[tuple[str, str], Evidence]:
    """By series of megatron-core and ModelOpt: the evidence of the pair on its default stack."""
    return {
        (series_of(e.pins["megatron-core"]), series_of(e.pins["nvidia-modelopt"])): e
        for e in results
        if re.fullmatch(r"compat-\d+\.\d+-modelopt\d+\.\d+", e.cell)
    }


def pair_label(e: Evidence | None) -> str:
    """`◐ 3/4`: the outcome's symbol, and of how many families the checkpoint restores."""
    if e is None:
        return verdict.SYMBOLS[CellOutcome.UNTESTED.value]
    core = [c.outcome for c in e.checks if c.kind == CORE_KIND]
    works = sum(o in HOLDS for o in core)
    there = len(core) - core.count(CheckOutcome.UNSUPPORTED)
    symbol = verdict.SYMBOLS[e.outcome.value]
    return f"{symbol} {works}/{there}" if works or there else symbol


def matrix(table: Table, rows: Sequence[str], columns: Sequence[str], device_class: str) -> str:
    """The squares of all pairs; one that has no evidence is `untested`, never left out."""
    squares = {
        row: [(_outcome(table.get((row, c))), pair_label(table.get((row, c)))) for c in columns]
        for row in rows
    }
    present = {outcome for line in squares.values() for outcome, _ in line}
    return render(
        "matrix.svg",
        columns=columns,
        squares=squares,
        fills={outcome: FILLS[outcome] for outcome in FILLS if outcome in present},
        title=f"megatron-core × ModelOpt, device class {device_class}",
        described={row: list(_runs(table, row, columns)) for row in rows},
    )


def _outcome(e: Evidence | None) -> str:
    there = e is not None and e.outcome.value in FILLS
    return e.outcome.value if e and there else CellOutcome.UNTESTED.value


def _runs(table: Table, row: str, columns: Sequence[str]) -> Iterator[tuple[str, str]]:
    """A line of squares in words, for those who do not see them: outcome and series."""
    outcomes = [table[row, c].outcome.value if (row, c) in table else "untested" for c in columns]
    for outcome, run in groupby(zip(outcomes, columns, strict=True), key=lambda pair: pair[0]):
        yield outcome, span([column for _, column in run])


def span(series: Sequence[str]) -> str:
    """`0.21 to 0.47`, or the only one."""
    return series[0] if len(series) == 1 else f"{series[0]} to {series[-1]}"


def badges(
    table: Table, rows: Sequence[str], columns: Sequence[str], device_class: str
) -> dict[str, Badge]:
    """By file name: a badge for each series of either package, and one for the newest pair."""
    by_name: dict[str, Badge] = {}
    for axis, stem, mine, other in (
        ("megatron-core", "mcore", rows, "ModelOpt"),
        ("ModelOpt", "modelopt", columns, "megatron-core"),
    ):
        of = len(columns if stem == "mcore" else rows)
        for series in mine:
            seen = [e for pair, e in table.items() if series == pair[stem == "modelopt"]]
            good = sum(verdict.restores_all(e) for e in seen)
            message = f"restores with {good} of {of} {other} series"
            if len(seen) < of:
                message += f", {of - len(seen)} untested"
            color = "green" if good == of else "yellow" if good else "red"
            by_name[f"{stem}-{series}"] = (
                f"{axis} {series} ({device_class})",
                message if seen else "untested",
                color if seen else "grey",
            )
    newest = max(table, key=lambda pair: (parsed(pair[0]), parsed(pair[1])), default=None)
    if newest:
        e = table[newest]
        name = f"megatron-core {e.pins['megatron-core']} × ModelOpt {e.pins['nvidia-modelopt']}"
        shade = {"compatible": "green", "partial": "yellow", "incompatible": "red"}
        by_name["newest"] = (
            f"{name} ({device_class})",
            e.outcome.value,
            shade.get(e.outcome.value, "grey"),
        )
    return by_name


def endpoint(label: str, message: str, color: str) -> str:
    """A badge in the form that the shields endpoint reads."""
    data = {"schemaVersion": 1, "label": shown(label), "message": shown(message), "color": color}
    return json.dumps(data, ensure_ascii=False, indent=1) + "\n"


def badge(label: str, message: str, color: str) -> str:
    """A badge as SVG. Its text is stretched to the room it was given, whatever the font."""
    texts = [" ".join(shown(text).split()) for text in (label, message)]
    return render(
        "badge.svg",
        label=texts[0],
        message=texts[1],
        left=len(texts[0]) * 7 + 12,
        right=len(texts[1]) * 7 + 12,
        fill=_COLORS[color],
        ink="#1f2328" if color == "yellow" else "#ffffff",
    )
