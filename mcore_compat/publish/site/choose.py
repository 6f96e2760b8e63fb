"""The page "Which versions should I use?" and its data. Pure.

The page's script selects the cells that fit, in the same way as `mcore_compat.analysis.recommend`.
The order, best first, is computed here with `recommend.rank`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mcore_compat.analysis import recommend
from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.core.cells import parsed, series_of
from mcore_compat.publish import constraints_files
from mcore_compat.publish.rendering import NAMES, render, script_json
from mcore_compat.publish.site.view import Site

ROWS = 20
ASKED = ("torch", "python", "cuda", "transformer-engine", "megatron-core", "nvidia-modelopt")
"""The versions that a user can choose, those that are hardest to change first."""

LABELS = {**NAMES, "cuda": "CUDA"}


def pages(site: Site) -> Iterator[tuple[str, str]]:
    """`choose.html`, and the constraints files that it links to."""
    good = ranked(site)
    uses = {c.name: site.all_.environments[c.name].install.command(f"{c.name}.txt") for c in good}
    yield (
        "choose.html",
        render(
            "choose.html",
            root="",
            asked=[(axis, LABELS[axis], choices(good, axis)) for axis in ASKED],
            good=good[:ROWS],
            total=len(good),
            failed=recommend.failed,
            use=uses,
            data=script_json(chosen_from(good, uses)),
        ),
    )
    for name, text in site.all_.constraints.items():
        yield f"{constraints_files.FOLDER}/{name}.txt", text


def ranked(site: Site) -> list[CellRecord]:
    """The cells in which every family restores, best first."""
    every = (cell for cell in site.all_.records if cell.name in site.all_.environments)
    return sorted(filter(recommend.works, every), key=recommend.rank)


def choices(good: Sequence[CellRecord], axis: str) -> list[tuple[str, str]]:
    """The options of an axis as `(value, label)`, newest first: each series, and its releases if it
    has several."""
    if axis == "cuda":
        return [(str(n), str(n)) for n in sorted({cell.cuda for cell in good}, reverse=True)]
    by_series: dict[str, set[str]] = {}
    for cell in good:
        by_series.setdefault(series_of(cell.pins[axis]), set()).add(cell.pins[axis])
    offered = []
    for series in sorted(by_series, key=parsed, reverse=True):
        offered.append((series, series if axis == "python" else f"{series}.x"))
        if len(by_series[series]) > 1:
            offered += [(v, v) for v in sorted(by_series[series], key=parsed, reverse=True)]
    return offered


def chosen_from(good: Sequence[CellRecord], uses: Mapping[str, str]) -> dict[str, Any]:
    """The data of the page's script, the best cells first. `uses`: by cell, the install command."""
    return {
        "axes": list(ASKED),
        "labels": [LABELS[axis] for axis in ASKED],
        "rows": ROWS,
        "cells": [
            [
                cell.name,
                cell.device_class,
                cell.outcome,
                [str(cell.cuda) if axis == "cuda" else cell.pins[axis] for axis in ASKED],
                list(cell.restores),
                len(recommend.failed(cell)),
                len(cell.unexpected),
                cell.taken[:10],
                uses[cell.name],
                len(cell.conditions),
            ]
            for cell in good
        ],
    }
