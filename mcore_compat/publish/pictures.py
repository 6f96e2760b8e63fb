"""Stage evidence → pictures: the matrix as SVG, badges as SVG and for the shields endpoint. Pure.

The endpoint's form: https://shields.io/badges/endpoint-badge, version 1 of its schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from itertools import groupby

from mcore_compat.core.cells import parsed, series_of
from mcore_compat.core.outcomes import CORE_KIND, CellOutcome, CheckOutcome
from mcore_compat.publish.collation import Collated
from mcore_compat.results import verdict
from mcore_compat.results.evidence import Evidence
from mcore_compat.results.fingerprint import plain

PICTURES, BADGES = "pictures", "badges"
"""Folders beside the report."""

WIDE, HIGH, LEFT, TOP, LINE = 50, 26, 118, 74, 20
"""Of a square, and of what lies before, above and below the squares, in pixels."""

_FILLS = {
    "compatible": ("#1a7f37", "#ffffff", "#2ea043", "#0d1117"),
    "partial": ("#f2cc60", "#1f2328", "#d29922", "#0d1117"),
    "incompatible": ("#b3261e", "#ffffff", "#ff8b82", "#0d1117"),
    "unresolvable": ("#d0d7de", "#1f2328", "#484f58", "#f0f6fc"),
    "unbuildable": ("#d0d7de", "#1f2328", "#484f58", "#f0f6fc"),
    "untested": ("#ffffff", "#57606a", "#161b22", "#9ea7b3"),
}
"""By outcome: square and text in light, then in dark; text is at least 4.5:1 on its square."""

_STYLE = (
    "text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}"
    ".name{fill:#1f2328}.title{fill:#1f2328;font-size:15px;font-weight:600}"
    "@media(prefers-color-scheme:dark){.name,.title{fill:#e6edf3}}"
)

Table = Mapping[tuple[str, str], Evidence]


def texts(all_: Collated) -> dict[str, str]:
    """Every picture's text by its path beside the report."""
    found: dict[str, str] = {}
    for device_class in all_.classes:
        table = pairs(all_.by_class[device_class])
        rows, columns = all_.matrix.mcore_series, all_.matrix.modelopt_series
        found[f"{PICTURES}/matrix-{device_class}.svg"] = matrix(table, rows, columns, device_class)
        for name, (label, message, color) in badges(table, rows, columns, device_class).items():
            stem = f"{BADGES}/{device_class}/{name}"
            found[f"{stem}.svg"] = badge(label, message, color)
            found[f"{stem}.json"] = endpoint(label, message, color)
    return dict(sorted(found.items()))


def pairs(found: Iterable[Evidence]) -> dict[tuple[str, str], Evidence]:
    """By series of megatron-core and ModelOpt: the evidence of the pair on its default stack."""
    return {
        (series_of(e.pins["megatron-core"]), series_of(e.pins["nvidia-modelopt"])): e
        for e in found
        if re.fullmatch(r"compat-\d+\.\d+-modelopt\d+\.\d+", e.cell)
    }


def restored(e: Evidence) -> tuple[int, int]:
    """Families whose checkpoint restores, and those that the release has."""
    core = [c.outcome for c in e.checks if c.kind == CORE_KIND]
    return core.count(CheckOutcome.WORKS), len(core) - core.count(CheckOutcome.UNSUPPORTED)


def matrix(table: Table, rows: Sequence[str], columns: Sequence[str], device_class: str) -> str:
    """The squares of all pairs; one that has no evidence is `untested`, never left out."""
    present = {e.outcome.value for e in table.values()}
    if len(table) < len(rows) * len(columns):
        present.add(CellOutcome.UNTESTED.value)
    legend = [outcome for outcome in _FILLS if outcome in present]
    width = LEFT + WIDE * len(columns) + 12
    height = TOP + HIGH * len(rows) + 3 * LINE
    title = f"megatron-core × ModelOpt, device class {device_class}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-labelledby="title desc">',
        f'<title id="title">{_text(title)}</title>',
        f'<desc id="desc">{_text(_described(table, rows, columns))}</desc>',
        f"<style>{_STYLE}{''.join(_rules(legend))}</style>",
        f'<text class="title" x="8" y="22">{_text(title)}</text>',
        f'<text class="name" x="8" y="{TOP - 12}">megatron-core</text>',
        f'<text class="name" x="{LEFT}" y="{TOP - 30}">ModelOpt</text>',
    ]
    for place, column in enumerate(columns):
        x = LEFT + WIDE * place + WIDE // 2
        parts.append(_named(column, x, TOP - 12, "middle"))
    for line, row in enumerate(rows):
        parts.append(_named(row, LEFT - 12, TOP + HIGH * line + 17, "end"))
        for place, column in enumerate(columns):
            parts.append(_square(table.get((row, column)), place, line))
    parts += _legend(legend, TOP + HIGH * len(rows) + LINE)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _rules(legend: Iterable[str]) -> Iterator[str]:
    for outcome in legend:
        square, text, dark, dark_text = _FILLS[outcome]
        yield f".{outcome}{{fill:{square}}}.on-{outcome}{{fill:{text}}}"
        yield f"@media(prefers-color-scheme:dark){{.{outcome}{{fill:{dark}}}"
        yield f".on-{outcome}{{fill:{dark_text}}}}}"


def _named(name: str, x: int, y: int, anchor: str) -> str:
    return f'<text class="name" x="{x}" y="{y}" text-anchor="{anchor}">{_text(name)}</text>'


def _square(e: Evidence | None, place: int, line: int) -> str:
    x, y = LEFT + WIDE * place, TOP + HIGH * line
    outcome = e.outcome.value if e and e.outcome.value in _FILLS else CellOutcome.UNTESTED.value
    said = verdict.SYMBOLS[outcome]
    if e and any(restored(e)):
        said += " {}/{}".format(*restored(e))
    return (
        f'<rect class="{outcome}" x="{x}" y="{y}" width="{WIDE - 2}" height="{HIGH - 2}" rx="3"/>'
        f'<text class="on-{outcome}" x="{x + WIDE // 2 - 1}" y="{y + 16}" text-anchor="middle">'
        f"{_text(said)}</text>"
    )


def _legend(legend: Sequence[str], y: int) -> Iterator[str]:
    x = 8
    for outcome in legend:
        yield f'<rect class="{outcome}" x="{x}" y="{y - 13}" width="22" height="18" rx="3"/>'
        yield (
            f'<text class="on-{outcome}" x="{x + 11}" y="{y}" text-anchor="middle">'
            f"{verdict.SYMBOLS[outcome]}</text>"
        )
        yield _named(outcome, x + 28, y, "start")
        x += 44 + 8 * len(outcome)
    told = "4/4: families whose default-spec checkpoint restores into the ModelOpt-spec model, "
    yield _named(told + "of those that the release has", 8, y + LINE + 4, "start")


def _described(table: Table, rows: Sequence[str], columns: Sequence[str]) -> str:
    """The squares in words, for those who do not see them."""
    lines = []
    for row in rows:
        outcomes = [
            table[row, c].outcome.value if (row, c) in table else "untested" for c in columns
        ]
        spans = []
        for outcome, run in groupby(zip(outcomes, columns, strict=True), key=lambda pair: pair[0]):
            series = [column for _, column in run]
            spans.append(f"{outcome} with ModelOpt {_span(series)}")
        lines.append(f"{row}: {', '.join(spans)}")
    return "; ".join(lines)


def _span(series: Sequence[str]) -> str:
    return series[0] if len(series) == 1 else f"{series[0]} to {series[-1]}"


Badge = tuple[str, str, str]
"""Label, message, colour."""


def badges(
    table: Table, rows: Sequence[str], columns: Sequence[str], device_class: str
) -> dict[str, Badge]:
    """By file name: a badge for each series of either package, and one for the newest pair."""
    made: dict[str, Badge] = {}
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
            made[f"{stem}-{series}"] = (
                f"{axis} {series} ({device_class})",
                message if seen else "untested",
                color if seen else "grey",
            )
    newest = max(table, key=lambda pair: (parsed(pair[0]), parsed(pair[1])), default=None)
    if newest:
        e = table[newest]
        label = f"megatron-core {e.pins['megatron-core']} × ModelOpt {e.pins['nvidia-modelopt']}"
        shade = {"compatible": "green", "partial": "yellow", "incompatible": "red"}
        made["newest"] = (
            f"{label} ({device_class})",
            e.outcome.value,
            shade.get(e.outcome.value, "grey"),
        )
    return made


_COLORS = {"green": "#1a7f37", "yellow": "#f2cc60", "red": "#b3261e", "grey": "#57606a"}


def endpoint(label: str, message: str, color: str) -> str:
    """A badge in the form that the shields endpoint reads."""
    data = {"schemaVersion": 1, "label": plain(label), "message": plain(message), "color": color}
    return json.dumps(data, ensure_ascii=False, indent=1) + "\n"


def badge(label: str, message: str, color: str) -> str:
    """A badge as SVG. Its text is stretched to the room it was given, whatever the font."""
    left, right = (len(plain(part)) * 7 + 12 for part in (label, message))
    ink = "#1f2328" if color == "yellow" else "#ffffff"
    told = _text(f"{label}: {message}")

    def part(text: str, x: int, room: int, fill: str) -> str:
        return (
            f'<text x="{x + 6}" y="14" textLength="{room - 12}" fill="{fill}" '
            f'lengthAdjust="spacingAndGlyphs">{_text(text)}</text>'
        )

    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f'aria-label="{told}"><title>{told}</title>'
        "<style>text{font:11px Verdana,'DejaVu Sans',sans-serif}</style>"
        f'<rect width="{left + right}" height="20" rx="3" fill="#444c56"/>'
        f'<path d="M{left} 0h{right - 3}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{right - 3}z" '
        f'fill="{_COLORS[color]}"/>'
        f"{part(label, 0, left, '#ffffff')}{part(message, left, right, ink)}</svg>\n"
    )


def _text(text: str) -> str:
    return escape(plain(" ".join(text.split())))
