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
from mcore_compat.results.evidence import Evidence
from mcore_compat.run import parts, pipeline
from mcore_compat.run.check_sets import MAIN, ON_A_GPU
from mcore_compat.run.context import Context
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
    suite, device = context.workspace.suite, device or pipeline.device_class()
    sets = (MAIN, *(ON_A_GPU.values() if device == "gpu" else ()))
    digests = {check_set.name: check_set.digest(suite) for check_set in sets}
    built = build_records().keys()
    return tuple(_state_of(cell, context, digests, device, built) for cell in cells)


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
    digests: Mapping[str, str],
    device: str,
    built: Set[str],
) -> CellState:
    lock = context.workspace.lock(cell.name)
    digest = sha256_file(lock) if lock.exists() else None
    path = evidence.path_of(cell.name, device, context.workspace.results)
    missing = _missing(cell, context, built)
    if not path.exists():
        return CellState(cell=cell, state="untested", missing=missing)
    try:
        last = evidence.load(path, whole=False)
    except CompatError:
        return CellState(cell=cell, state="its evidence is corrupt")
    if last.outcome is CellOutcome.UNRESOLVABLE:
        asked = locks.asked_for(cell, context.matrix, context.releases)
        same = digest is None and last.lock == asked
        state = "fresh" if same else "what the resolver is asked changed"
    else:
        state = _freshness(last, digest or "", digests, context)
    newer = moved(cell, last.pins)
    if newer:
        state = ", ".join(f"{axis} {cell.pins[axis]} is out" for axis in newer)
    return CellState(
        cell=cell,
        state=state,
        outcomes=frozenset({last.outcome.value, *(check.outcome.value for check in last.checks)}),
        seconds=sum(c.seconds or 0 for c in last.checks) * SUITE_PARTS or None,
        missing=() if state == "fresh" else missing,
        behind=bool(newer),
    )


def _freshness(last: Evidence, lock: str, digests: Mapping[str, str], context: Context) -> str:
    """`fresh`, or why not; `digests`: of the check sets that a whole run has."""
    python = last.pins.get("python", "")
    why = evidence.stale(last, lock=lock, suite=digests["main"], python=python)
    if why:
        return why
    if not last.checks:
        return "fresh"
    lacks = parts.lacking(
        last, {n: d for n, d in digests.items() if n != "main"}, context.workspace
    )
    return f"its {' and '.join(lacks)} checks were not asked" if lacks else "fresh"


def _missing(cell: Cell, context: Context, built: Set[str]) -> tuple[str, ...]:
    """Keys of the wheels that the cell's lock wants and the wheelhouse does not have; none where
    there is no lock."""
    path = context.workspace.lock(cell.name)
    pins = locks.read(path).source_only if path.exists() else ()
    if not pins:
        return ()
    chosen = pipeline.chosen(cell.name, context)
    # Of each package, any of its keys will do.
    wanted = [[str(key) for key in wheelhouse.keys_of(pin, chosen)] for pin in pins]
    return tuple(keys[-1] for keys in wanted if not built & set(keys))
