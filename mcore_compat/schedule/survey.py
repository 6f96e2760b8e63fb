"""What is known of cells before they run: read from locks, evidence and the wheelhouse."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from mcore_compat.base.errors import CompatError
from mcore_compat.base.files import sha256_file
from mcore_compat.core.cells import Cell, moved
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.environments import wheelhouse
from mcore_compat.resolve import locks
from mcore_compat.results import evidence
from mcore_compat.results.evidence import Evidence, Stale
from mcore_compat.run import part_results as parted
from mcore_compat.run import pipeline
from mcore_compat.run.pipeline import Context
from mcore_compat.schedule.plan import CellState

SUITE_PARTS = 1.25
"""A cell takes this much longer than its checks together: imports, environment, writing."""

Asks = tuple[tuple[str, ...], ...]
"""Of each package that a lock wants built here: the keys of which any will do."""


def survey(
    cells: Iterable[Cell], context: Context, device: str | None = None
) -> tuple[CellState, ...]:
    """The state of each cell on a device class (None: this machine's). Reads files only;
    resolves, builds and runs nothing.

    Raises:
        CompatError: a lock is corrupt. Corrupt evidence only makes its cell stale.
    """
    suite, device = pipeline.suite_digest(), device or pipeline.device_class()
    built, parts = _built(wheelhouse.folder()), parted.wanted(device)
    return tuple(_known(cell, context, suite, device, built, parts) for cell in cells)


def _built(folder: Path) -> frozenset[str]:
    """The keys of the wheels that are there, as their records say."""
    found = set()
    for record in folder.glob("*/build.json"):
        try:
            said = json.loads(record.read_text())
            if said["wheel"] and said["sha256"]:
                found.add(record.parent.name)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # does not count, as for `wheelhouse.lookup`
    return frozenset(found)


def _known(
    cell: Cell,
    context: Context,
    suite: str,
    device: str,
    built: frozenset[str],
    parts: Mapping[str, str],
) -> CellState:
    path = pipeline.lock_path(cell)
    digest = sha256_file(path) if path.exists() else None
    kept = evidence.path_of(cell.name, device)
    asks = _asks(cell, context)
    if not kept.exists():
        return CellState(cell=cell, state="untested", missing=_missing(asks, built))
    try:
        found = evidence.load(kept, validate=False, whole=False)
    except CompatError:
        return CellState(cell=cell, state="its evidence is corrupt")
    if found.outcome is CellOutcome.UNRESOLVABLE:
        same = digest is None and found.lock == locks.asked_for(
            cell, context.matrix, context.releases
        )
        state = "fresh" if same else "what the resolver is asked changed"
    else:
        state = _state(found, digest or "", suite, parts)
    newer = moved(cell, found.pins)
    if newer:
        state = ", ".join(f"{axis} {cell.pins[axis]} is out" for axis in newer)
    fresh = state == "fresh"
    return CellState(
        cell=cell,
        state=state,
        outcomes=frozenset({found.outcome.value, *(check.outcome.value for check in found.checks)}),
        seconds=sum(c.seconds for c in found.checks) * SUITE_PARTS or None,
        missing=() if fresh else _missing(asks, built),
        behind=bool(newer),
    )


def _state(found: Evidence, lock: str, suite: str, parts: Mapping[str, str]) -> str:
    """`parts`: what a whole run has besides the suite, by digest."""
    python = found.pins.get("python", "")
    state = evidence.freshness(found, lock=lock, suite=suite, python=python)
    if isinstance(state, Stale):
        return state.why
    if not found.checks:
        return "fresh"
    lacks = parted.lacking(found.cell, device_class=found.device_class, lock=lock, wanted=parts)
    return f"its {' and '.join(lacks)} checks were not asked" if lacks else "fresh"


def _asks(cell: Cell, context: Context) -> Asks:
    """What the cell's lock wants of the wheelhouse; nothing where there is no lock."""
    path = pipeline.lock_path(cell)
    if not path.exists():
        return ()
    pins = locks.read(path).source_only
    if not pins:
        return ()
    of = pipeline.chosen(cell.name, context)
    return tuple(tuple(map(str, wheelhouse.keys_of(pin, of))) for pin in pins)


def _missing(asks: Asks, built: frozenset[str]) -> tuple[str, ...]:
    """Keys of the wheels that the wheelhouse does not have."""
    return tuple(choices[-1] for choices in asks if not any(key in built for key in choices))
