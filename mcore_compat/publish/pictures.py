"""Stage results → pictures: the matrix as SVG; badges as SVG and as JSON for the shields endpoint.
Pure.

The JSON follows https://shields.io/badges/endpoint-badge, version 1 of its schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from mcore_compat.core.cells import parsed, series_of
from mcore_compat.core.matrix import Pairs
from mcore_compat.publish.collation import Collated
from mcore_compat.publish.rendering import render, shown
from mcore_compat.results import levels
from mcore_compat.results.levels import Level, Square
from mcore_compat.results.result import Result

PICTURES, BADGES = "pictures", "badges"
"""Their folders, beside the report."""

FILLS = {
    Level.NOTHING: ("#b3261e", "#ffffff", "#ff8b82", "#0d1117"),
    Level.NO_IMPORT: ("#e8b4a8", "#1f2328", "#b5695a", "#0d1117"),
    Level.RESTORES: ("#f6c7a1", "#1f2328", "#c9824f", "#0d1117"),
    Level.SOME: ("#f2cc60", "#1f2328", "#d29922", "#0d1117"),
    Level.QUANTIZES: ("#dbe68c", "#1f2328", "#a3b545", "#0d1117"),
    Level.TE_SOME: ("#a6dba0", "#1f2328", "#6fbf6f", "#0d1117"),
    Level.TE: ("#1a7f37", "#ffffff", "#2ea043", "#0d1117"),
    Level.GPU: ("#0a58a6", "#ffffff", "#58a6ff", "#0d1117"),
    Level.UNRESOLVABLE: ("#d0d7de", "#1f2328", "#484f58", "#f0f6fc"),
    Level.UNBUILDABLE: ("#d0d7de", "#1f2328", "#484f58", "#f0f6fc"),
    Level.UNTESTED: ("#ffffff", "#57606a", "#161b22", "#9ea7b3"),
}
"""By level: colours of square and text in light mode, then in dark mode. The contrast of text and
square is at least 4.5:1."""

_COLORS = {"green": "#1a7f37", "yellow": "#f2cc60", "red": "#b3261e", "grey": "#57606a"}

Badge = tuple[str, str, str]
"""Label, message, colour."""


def texts(all_: Collated) -> dict[str, str]:
    """The text of every picture, by its path relative to the report's folder."""
    by_path: dict[str, str] = {}
    for device_class in all_.classes:
        table = squares(all_.by_class[device_class], all_.matrix.expected)
        rows, columns = all_.matrix.mcore_series, all_.matrix.modelopt_series
        by_path[f"{PICTURES}/matrix-{device_class}.svg"] = matrix(
            table, rows, columns, device_class
        )
        for name, (label, message, color) in badges(table, rows, columns, device_class).items():
            stem = f"{BADGES}/{device_class}/{name}"
            by_path[f"{stem}.svg"] = badge(label, message, color)
            by_path[f"{stem}.json"] = endpoint(label, message, color)
    return dict(sorted(by_path.items()))


def pairs(results: Iterable[Result]) -> dict[tuple[str, str], Result]:
    """By series of megatron-core and ModelOpt: the result of the pair on its default stack."""
    return {
        (series_of(e.pins["megatron-core"]), series_of(e.pins["nvidia-modelopt"])): e
        for e in results
        if re.fullmatch(r"compat-\d+\.\d+-modelopt\d+\.\d+", e.cell)
    }


def squares(results: Iterable[Result], rules: Sequence[Pairs]) -> dict[tuple[str, str], Square]:
    """By pair: its square in the headline matrix."""
    return {pair: levels.square(e, rules) for pair, e in pairs(results).items()}


def matrix(
    table: Mapping[tuple[str, str], Square],
    rows: Sequence[str],
    columns: Sequence[str],
    device_class: str,
) -> str:
    """The matrix as SVG, the newest series first. A pair without a result is shown as
    `untested`."""
    newest_rows, newest_columns = [*reversed(rows)], [*reversed(columns)]
    none = levels.square(None)
    lines = {
        row: [(column, table.get((row, column), none)) for column in newest_columns]
        for row in newest_rows
    }
    there = {square.level for line in lines.values() for _, square in line}
    return render(
        "matrix.svg",
        columns=newest_columns,
        lines=lines,
        best={row: levels.best_of(table, row, columns) for row in rows},
        fills={level: FILLS[level] for level in FILLS if level in there},
        title=f"megatron-core × ModelOpt, device class {device_class}",
        described={
            row: levels.runs([(square.level.words, column) for column, square in line])
            for row, line in lines.items()
        },
    )


def span(series: Sequence[str]) -> str:
    """A range of series: `0.21 to 0.47`, or the only one."""
    return series[0] if len(series) == 1 else f"{series[0]} to {series[-1]}"


def badges(
    table: Mapping[tuple[str, str], Square],
    rows: Sequence[str],
    columns: Sequence[str],
    device_class: str,
) -> dict[str, Badge]:
    """By file name: a badge for each series of both packages, and one for the newest pair."""
    by_name: dict[str, Badge] = {}
    for axis, stem, mine, other in (
        ("megatron-core", "mcore", rows, "ModelOpt"),
        ("ModelOpt", "modelopt", columns, "megatron-core"),
    ):
        of = len(columns if stem == "mcore" else rows)
        for series in mine:
            seen = [s for pair, s in table.items() if series == pair[stem == "modelopt"]]
            quantizes = sum(s.level in QUANTIZE for s in seen)
            message = f"quantizes with {quantizes} of {of} {other} series"
            if len(seen) < of:
                message += f", {of - len(seen)} untested"
            color = "green" if quantizes == of else "yellow" if quantizes else "red"
            by_name[f"{stem}-{series}"] = (
                f"{axis} {series} ({device_class})",
                message if seen else "untested",
                color if seen else "grey",
            )
    newest = max(table, key=lambda pair: (parsed(pair[0]), parsed(pair[1])), default=None)
    if newest:
        level = table[newest].level
        shade = "green" if level in QUANTIZE else "red" if level is Level.NOTHING else "yellow"
        by_name["newest"] = (
            f"megatron-core {newest[0]} × ModelOpt {newest[1]} ({device_class})",
            level.words.partition(": ")[2] or level.words,
            shade if table[newest].counts else "grey",
        )
    return by_name


QUANTIZE = frozenset({Level.QUANTIZES, Level.TE_SOME, Level.TE, Level.GPU})
"""The levels at which quantized state is restored for every format and family."""


def endpoint(label: str, message: str, color: str) -> str:
    """A badge as JSON for the shields endpoint."""
    data = {"schemaVersion": 1, "label": shown(label), "message": shown(message), "color": color}
    return json.dumps(data, ensure_ascii=False, indent=1) + "\n"


def badge(label: str, message: str, color: str) -> str:
    """A badge as SVG. Its text is stretched to its width, whatever the font."""
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
