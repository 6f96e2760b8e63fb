"""The first page: the matrix, the list of cells, and the data for filtering both. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mcore_compat.core.cells import AXES, parsed, series_of
from mcore_compat.core.outcomes import FEATURES, CellOutcome, CheckOutcome
from mcore_compat.core.profiles import BUILT_IN, WORST_FIRST, Profile, feature_of
from mcore_compat.publish.collation import counts
from mcore_compat.publish.rendering import NAMES, render, script_json
from mcore_compat.publish.site.view import Entry, Site, restores, totals
from mcore_compat.results import levels
from mcore_compat.results.levels import SHOWN, Level, Square
from mcore_compat.results.result import DEVICE_CLASSES, STAND_IN, Result
from mcore_compat.results.verdict import SYMBOLS

LETTERS = dict(zip(CheckOutcome, "whbunkct", strict=True))
"""The letter for each check outcome in the data; `.` if the check was not run."""

ROWS = 50
"""The number of rows of the list in plain HTML; the script shows as many at first."""


@dataclass(frozen=True, kw_only=True)
class PairSquare:
    """A pair of series in the matrix: its square, further notes, why it is out of date (`stale`),
    and whether it is the one to use in its row (`best`)."""

    entry: Entry
    shown: Square
    notes: tuple[str, ...]
    stale: str
    best: bool


def pages(site: Site) -> Iterator[tuple[str, str]]:
    """`index.html`, and `cells/index.html`, the plain list of all cells."""
    pairs = [entry.pair for entry in site.entries.values()]
    mcore, modelopt = (
        sorted({pair[i] for pair in pairs}, key=parsed, reverse=True) for i in range(2)
    )
    every = [*rows(site)]
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
            levels=[*Level],
            row_notes=row_notes(site, device_class, mcore),
            profiles=[*profiles_of(site)],
            device_class=device_class,
            device_classes=DEVICE_CLASSES,
            ran_on=site.all_.classes,
            kinds=kinds,
            families=families,
            choices={axis: _series(site, axis) for axis in AXES[2:]},
            rows=every[:ROWS],
            entries=len(every),
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


def squares(site: Site, device_class: str) -> dict[tuple[str, str], PairSquare]:
    """By pair: the square of its cell on the default stack."""
    others: dict[tuple[str, str], int] = {}
    for entry in site.entries.values():
        others[entry.pair] = others.get(entry.pair, 0) + (not entry.default)
    mine = [entry for entry in site.entries.values() if entry.default]
    shown = {entry.pair: _shown(site, entry, device_class) for entry in mine}
    columns = sorted({pair[1] for pair in shown}, key=parsed)
    best = {pair[0]: levels.best_of(shown, pair[0], columns) for pair in shown}
    return {
        entry.pair: PairSquare(
            entry=entry,
            shown=shown[entry.pair],
            notes=tuple(_notes(shown[entry.pair], others[entry.pair])),
            stale=site.stale.get((entry.name, device_class), ""),
            best=best[entry.pair[0]] == entry.pair[1],
        )
        for entry in mine
    }


def _shown(site: Site, entry: Entry, device_class: str) -> Square:
    stale = site.stale.get((entry.name, device_class), "")
    return levels.square(entry.by_class.get(device_class), site.all_.matrix.expected, stale)


def _notes(shown: Square, others: int) -> Iterator[str]:
    yield from shown.remarks
    if others:
        yield f"+{others} stack" + "s" * (others > 1)


def row_notes(
    site: Site, device_class: str, mcore: Sequence[str]
) -> dict[str, tuple[levels.Note, ...]]:
    """By series of megatron-core: the notes that hold for all its pairs."""
    by_row: dict[str, list[Result]] = {}
    for entry in site.entries.values():
        if entry.default and device_class in entry.by_class:
            by_row.setdefault(entry.pair[0], []).append(entry.by_class[device_class])
    rules = site.all_.matrix.expected
    found = {name: levels.notes(by_row.get(name, ()), rules) for name in mcore}
    return {name: notes for name, notes in found.items() if notes}


def profiles_of(site: Site) -> dict[str, Profile]:
    """Every profile by name: the built-in ones, those of the matrix, and one for each feature."""
    alone = {name: Profile(name=name, features=(name,)) for name in FEATURES}
    return {**BUILT_IN, **site.all_.matrix.profiles, **alone}


def rows(site: Site) -> Iterator[tuple[Entry, Result | None]]:
    """Every cell with its result on each device class; untested cells once, with None."""
    for cell in site.entries.values():
        for result in cell.by_class.values() or (None,):
            yield cell, result


def data(site: Site, mcore: Sequence[str], modelopt: Sequence[str]) -> dict[str, Any]:
    """The data that the page's script filters: cells as rows of numbers, each name stored once."""
    checks = sorted(
        {
            c.check: (c.kind, c.family or "", feature_of(c), c.format or "")
            for e in site.all_.found
            for c in e.checks
        }.items()
    )
    place = {check: i for i, (check, _) in enumerate(checks)}
    versions = {
        axis: sorted({entry.pins[axis] for entry in site.entries.values()}, key=parsed)
        for axis in AXES
    }
    index = {axis: {v: i for i, v in enumerate(known)} for axis, known in versions.items()}
    outcomes = [o.value for o in CellOutcome]
    texts: dict[str, int] = {"": 0}
    whys: dict[str, int] = {"": 0}
    says: dict[str, int] = {"": 0}
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
            says.setdefault(levels.square(e, site.all_.matrix.expected).says, len(says)),
            int(e is not None and e.te_extension == STAND_IN),
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
        "symbols": {**{level.key: level.mark for level in Level}, **SYMBOLS},
        "levels": {level.key: level.words for level in Level},
        "shown": [*SHOWN],
        "worst": [outcome.value for outcome in WORST_FIRST],
        "profiles": {
            name: [one.features, one.families, one.formats]
            for name, one in profiles_of(site).items()
        },
        "says": list(says),
        "checks": [[check, *of] for check, of in checks],
        "texts": list(texts),
        "stale": list(whys),
        "rows": ROWS,
        "cells": cells,
    }


def _letters(e: Result, place: dict[str, int]) -> str:
    letters = ["."] * len(place)
    for c in e.checks:
        letters[place[c.check]] = LETTERS[c.outcome]
    return "".join(letters) if e.checks else ""
