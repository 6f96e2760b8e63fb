"""The first page: the matrix, the list of cells, and the data that both are filtered from. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mcore_compat.core.cells import AXES, parsed, series_of
from mcore_compat.core.outcomes import CellOutcome, CheckOutcome
from mcore_compat.publish.collation import counts
from mcore_compat.publish.rendering import NAMES, render, script_json
from mcore_compat.publish.site.view import Entry, Site, restores, totals
from mcore_compat.results.evidence import DEVICE_CLASSES, Evidence
from mcore_compat.results.verdict import SYMBOLS

LETTERS = dict(zip(CheckOutcome, "whbunkct", strict=True))
"""How the data spells a check's outcome; `.` where it was not there."""

ROWS = 50
"""Rows of the list that are plain HTML, and that are shown at a time."""


@dataclass(frozen=True, kw_only=True)
class Square:
    """A pair of series on the page; `others` counts cells of other stacks."""

    entry: Entry
    outcome: str
    notes: tuple[str, ...]
    stale: str


def pages(site: Site) -> Iterator[tuple[str, str]]:
    """`index.html`, and every cell in one plain list."""
    pairs = [entry.pair for entry in site.entries.values()]
    mcore, modelopt = (sorted({pair[i] for pair in pairs}, key=parsed) for i in range(2))
    off = [row for row in rows(site) if not row[0].default]
    device_class = site.device_class
    kinds = sorted({c.kind for e in site.all_.found for c in e.checks})
    families = sorted({c.family for e in site.all_.found for c in e.checks if c.family})
    yield (
        "index.html",
        render(
            "index.html",
            root="",
            mcore=mcore,
            modelopt=modelopt,
            squares=squares(site, device_class),
            device_class=device_class,
            device_classes=DEVICE_CLASSES,
            kinds=kinds,
            families=families,
            choices={axis: _series(site, axis) for axis in AXES[2:]},
            rows=off[:ROWS],
            off=len(off),
            counts=counts,
            stale=site.stale,
            totals=totals(entry.outcome(device_class) for entry in site.entries.values()),
            over=site.all_.over,
            known=site.entries,
            data=script_json(data(site, mcore, modelopt)),
        ),
    )
    yield (
        "cells/index.html",
        render("cells.html", root="../", rows=rows(site), restores=restores, stale=site.stale),
    )


def _series(site: Site, axis: str) -> list[str]:
    return sorted({series_of(entry.pins[axis]) for entry in site.entries.values()}, key=parsed)


def squares(site: Site, device_class: str) -> dict[tuple[str, str], Square]:
    """By pair: the cell on the series' own stack."""
    others: dict[tuple[str, str], int] = {}
    for entry in site.entries.values():
        others[entry.pair] = others.get(entry.pair, 0) + (not entry.default)
    return {
        entry.pair: Square(
            entry=entry,
            outcome=entry.outcome(device_class).value,
            notes=tuple(_notes(site, entry, device_class, others[entry.pair])),
            stale=site.stale.get((entry.name, device_class), ""),
        )
        for entry in site.entries.values()
        if entry.default
    }


def _notes(site: Site, entry: Entry, device_class: str, others: int) -> Iterator[str]:
    result = entry.by_class.get(device_class)
    needs_gpu = counts(result).needs_gpu if result else 0
    if needs_gpu:
        yield f"{needs_gpu} need gpu"
    if (entry.name, device_class) in site.stale:
        yield "stale"
    if others:
        yield f"+{others} off-stack"


def rows(site: Site) -> Iterator[tuple[Entry, Evidence | None]]:
    """Every cell on each device class of which there is evidence; untested ones too."""
    for cell in site.entries.values():
        for result in cell.by_class.values() or (None,):
            yield cell, result


def data(site: Site, mcore: Sequence[str], modelopt: Sequence[str]) -> dict[str, Any]:
    """What the page's script filters: cells as rows of numbers, names given once."""
    checks = sorted({c.check: (c.kind, c.family or "") for e in site.all_.found for c in e.checks}
                    .items())  # fmt: skip
    place = {check: i for i, (check, _) in enumerate(checks)}
    versions = {
        axis: sorted({entry.pins[axis] for entry in site.entries.values()}, key=parsed)
        for axis in AXES
    }
    index = {axis: {v: i for i, v in enumerate(known)} for axis, known in versions.items()}
    outcomes = [o.value for o in CellOutcome]
    texts: dict[str, int] = {"": 0}
    whys: dict[str, int] = {"": 0}
    cells = [
        [
            cell.name,
            DEVICE_CLASSES.index(e.device_class) if e else -1,
            outcomes.index(e.outcome.value if e else CellOutcome.UNTESTED.value),
            *(index[axis][cell.pins[axis]] for axis in AXES),
            int(cell.default),
            texts.setdefault(_letters(e, place), len(texts)) if e else 0,
            whys.setdefault(site.stale.get((cell.name, e.device_class), ""), len(whys)) if e else 0,
            e.taken[:10] if e else "",
        ]
        for cell, e in rows(site)
    ]
    return {
        "axes": list(AXES),
        "names": [NAMES[axis] for axis in AXES],
        "mcore": list(mcore),
        "modelopt": list(modelopt),
        "versions": [versions[axis] for axis in AXES],
        "devices": list(DEVICE_CLASSES),
        "outcomes": outcomes,
        "letters": {letter: outcome.value for outcome, letter in LETTERS.items()},
        "symbols": SYMBOLS,
        "checks": [[check, *of] for check, of in checks],
        "texts": list(texts),
        "stale": list(whys),
        "rows": ROWS,
        "cells": cells,
    }


def _letters(e: Evidence, place: dict[str, int]) -> str:
    letters = ["."] * len(place)
    for c in e.checks:
        letters[place[c.check]] = LETTERS[c.outcome]
    return "".join(letters) if e.checks else ""
