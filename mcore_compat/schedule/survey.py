"""What is known of cells before they run: read from locks, evidence and the wheelhouse."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Set
from typing import Any

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


def survey(
    cells: Iterable[Cell], context: Context, device: str | None = None
) -> tuple[CellState, ...]:
    """The state of each cell on a device class (None: this machine's). Reads files only;
    resolves, builds and runs nothing.

    Raises:
        CompatError: a lock is corrupt. Corrupt evidence only makes its cell stale.
    """
    suite, device = pipeline.suite_digest(), device or pipeline.device_class()
    built, parts = build_records().keys(), parted.wanted(device)
    return tuple(_state_of(cell, context, suite, device, built, parts) for cell in cells)


def build_records() -> dict[str, dict[str, Any]]:
    """What the wheelhouse remembers of each wheel that is there, by key."""
    builds = {}
    for path in wheelhouse.folder().glob("*/build.json"):
        try:
            record = json.loads(path.read_text())
            if record["wheel"] and record["sha256"]:
                builds[path.parent.name] = record
        except (OSError, ValueError, KeyError, TypeError):
            continue  # does not count, as for `wheelhouse.lookup`
    return builds


def _state_of(
    cell: Cell,
    context: Context,
    suite: str,
    device: str,
    built: Set[str],
    parts: Mapping[str, str],
) -> CellState:
    lock = pipeline.lock_path(cell)
    digest = sha256_file(lock) if lock.exists() else None
    path = evidence.path_of(cell.name, device)
    missing = _missing(cell, context, built)
    if not path.exists():
        return CellState(cell=cell, state="untested", missing=missing)
    try:
        last = evidence.load(path, validate=False, whole=False)
    except CompatError:
        return CellState(cell=cell, state="its evidence is corrupt")
    if last.outcome is CellOutcome.UNRESOLVABLE:
        asked = locks.asked_for(cell, context.matrix, context.releases)
        same = digest is None and last.lock == asked
        state = "fresh" if same else "what the resolver is asked changed"
    else:
        state = _freshness(last, digest or "", suite, parts)
    newer = moved(cell, last.pins)
    if newer:
        state = ", ".join(f"{axis} {cell.pins[axis]} is out" for axis in newer)
    return CellState(
        cell=cell,
        state=state,
        outcomes=frozenset({last.outcome.value, *(check.outcome.value for check in last.checks)}),
        seconds=sum(c.seconds for c in last.checks) * SUITE_PARTS or None,
        missing=() if state == "fresh" else missing,
        behind=bool(newer),
    )


def _freshness(last: Evidence, lock: str, suite: str, parts: Mapping[str, str]) -> str:
    """`fresh`, or why not; `parts`: what a whole run has besides the suite, by digest."""
    python = last.pins.get("python", "")
    state = evidence.freshness(last, lock=lock, suite=suite, python=python)
    if isinstance(state, Stale):
        return state.why
    if not last.checks:
        return "fresh"
    lacks = parted.lacking(last.cell, device_class=last.device_class, lock=lock, wanted=parts)
    return f"its {' and '.join(lacks)} checks were not asked" if lacks else "fresh"


def _missing(cell: Cell, context: Context, built: Set[str]) -> tuple[str, ...]:
    """Keys of the wheels that the cell's lock wants and the wheelhouse does not have; none where
    there is no lock."""
    path = pipeline.lock_path(cell)
    pins = locks.read(path).source_only if path.exists() else ()
    if not pins:
        return ()
    chosen = pipeline.chosen(cell.name, context)
    # Of each package, any of its keys will do.
    wanted = [[str(key) for key in wheelhouse.keys_of(pin, chosen)] for pin in pins]
    return tuple(keys[-1] for keys in wanted if not built & set(keys))
