"""What is known of cells before they run: read from locks, evidence and the wheelhouse."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from mcore_compat import evidence, locks, pipeline, wheelhouse
from mcore_compat.cells import Cell, moved
from mcore_compat.errors import CompatError
from mcore_compat.evidence import Evidence, Fresh
from mcore_compat.files import sha256_file
from mcore_compat.outcomes import CellOutcome
from mcore_compat.pipeline import Context
from mcore_compat.plan import Known

SUITE_PARTS = 1.25
"""A cell takes this much longer than its checks together: imports, environment, writing."""


def survey(cells: Iterable[Cell], context: Context, device: str | None = None) -> tuple[Known, ...]:
    """The state of each cell on a device class (None: this machine's). Reads files only;
    resolves, builds and runs nothing.

    Raises:
        CompatError: a lock is corrupt. Corrupt evidence only makes its cell stale.
    """
    suite, device = pipeline.suite_digest(), device or pipeline.device_class()
    built = _built(wheelhouse.folder())
    return tuple(_known(cell, context, suite, device, built) for cell in cells)


def _built(folder: Path) -> dict[str, dict[str, str]]:
    """By key: digest by file name of the wheels that are there, as their records say."""
    found: dict[str, dict[str, str]] = {}
    for record in folder.glob("*/build.json"):
        try:
            said = json.loads(record.read_text())
            found[record.parent.name] = {said["wheel"]: said["sha256"]}
        except (OSError, ValueError, KeyError, TypeError):
            continue  # does not count, as for `wheelhouse.lookup`
    return found


def _known(
    cell: Cell,
    context: Context,
    suite: str,
    device: str,
    built: Mapping[str, Mapping[str, str]],
) -> Known:
    path = pipeline.lock_path(cell)
    digest = sha256_file(path) if path.exists() else None
    kept = evidence.path_of(cell.name, device)
    if not kept.exists():
        return Known(cell=cell, state="untested", missing=_missing(cell, context, built))
    try:
        found = evidence.load(kept, validate=False, whole=False)
    except CompatError:
        return Known(cell=cell, state="its evidence is corrupt")
    if found.outcome is CellOutcome.UNRESOLVABLE:
        same = digest is None and found.lock == locks.asked_for(
            cell, context.matrix, context.releases
        )
        state = "fresh" if same else "what the resolver is asked changed"
    else:
        state = _state(found, digest or "", suite, built)
    newer = moved(cell, found.pins)
    if newer:
        state = ", ".join(f"{axis} {cell.pins[axis]} is out" for axis in newer)
    fresh = state == "fresh"
    return Known(
        cell=cell,
        state=state,
        outcomes=frozenset({found.outcome.value, *(check.outcome.value for check in found.checks)}),
        seconds=sum(c.seconds for c in found.checks) * SUITE_PARTS or None,
        missing=() if fresh else _missing(cell, context, built),
        behind=bool(newer),
    )


def _state(found: Evidence, lock: str, suite: str, built: Mapping[str, Mapping[str, str]]) -> str:
    there: dict[str, set[str]] = {}
    for wheels in built.values():
        for name, sha256 in wheels.items():
            there.setdefault(name, set()).add(sha256)
    # A wheel of this name that is not the one recorded: that one was built anew.
    changed = {n: "" for n, s in found.wheels.items() if n in there and s not in there[n]}
    state = evidence.freshness(
        found,
        lock=lock,
        suite=suite,
        wheels=changed or None,
        python=found.pins.get("python", ""),
    )
    return "fresh" if isinstance(state, Fresh) else state.why


def _missing(
    cell: Cell, context: Context, built: Mapping[str, Mapping[str, str]]
) -> tuple[str, ...]:
    """Keys of the wheels that the cell's lock asks for and the wheelhouse does not have."""
    path = pipeline.lock_path(cell)
    if not path.exists():
        return ()
    of = pipeline.chosen(cell.name, context)
    keys = []
    for pin in locks.read(path).source_only:
        choices = [str(key) for key in wheelhouse.keys_of(pin, of)]
        if not any(key in built for key in choices):
            keys.append(choices[-1])
    return tuple(keys)
