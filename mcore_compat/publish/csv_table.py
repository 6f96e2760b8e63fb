"""Stage results → a CSV table for other tools. Pure."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Sequence

from mcore_compat.base.foreign import line
from mcore_compat.core.cells import AXES
from mcore_compat.publish.collation import order
from mcore_compat.results import levels
from mcore_compat.results.result import CheckEndings, Result


def csv_text(results: Sequence[Result]) -> str:
    """The CSV table: a row for each cell, device class and family; a column for each kind of check
    that families have; `conditions`: the public setting that each `works-with` check needs. It
    follows RFC 4180, except that lines end in a line feed, as in every other file; UTF-8."""
    kinds = sorted({c.kind for e in results for c in e.checks if c.family})
    head = [
        "cell",
        "device_class",
        "cell_outcome",
        "level",
        *AXES,
        "cuda",
        "te_extension",
        "taken",
        "family",
        "conditions",
        *kinds,
    ]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    for e in sorted(results, key=order):
        ending = [e.outcome.value, levels.level(e).key]
        start = [e.cell, e.device_class, *ending, *(e.pins[axis] for axis in AXES)]
        start += [str(e.cuda), e.te_extension, e.taken]
        writer.writerows(
            [*map(cell, start), *rest] for rest in _of_families(e.endings, tuple(kinds))
        )
    return out.getvalue()


@functools.cache
def _of_families(endings: CheckEndings, kinds: tuple[str, ...]) -> list[list[str]]:
    """The last columns of a cell's rows: family, conditions, and the outcome of each kind."""
    by_family: dict[str, dict[str, str]] = {"": {}} if not endings.families else {}
    conditions: dict[str, list[str]] = {}
    for c in endings.checks:
        if c.family:
            by_family.setdefault(c.family, {})[c.kind] = c.outcome.value
        if c.family and c.condition:
            conditions.setdefault(c.family, []).append(f"{c.kind}: {c.condition}")
    rows = []
    for family in sorted(by_family):
        given = "; ".join(conditions.get(family, ()))
        row = [family, given, *(by_family[family].get(kind, "") for kind in kinds)]
        rows.append([cell(value) for value in row])
    return rows


def cell(value: str) -> str:
    """A value on one line, without invisible characters, that no spreadsheet takes for a
    formula."""
    value = line(value)
    return f"'{value}" if value[:1] in ("=", "+", "-", "@", "|", "%") else value
