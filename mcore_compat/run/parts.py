"""Runs the check sets beside the main one (`ranks`, `gpu`) in a cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mcore_compat.base.errors import EvidenceError
from mcore_compat.core.cells import Cell
from mcore_compat.core.workspace import Workspace
from mcore_compat.resolve import locks
from mcore_compat.results import evidence
from mcore_compat.results.evidence import Evidence
from mcore_compat.run import engine, pipeline
from mcore_compat.run.check_sets import CheckSet
from mcore_compat.run.context import Context, Options
from mcore_compat.run.engine import Listener


def kept(cell: Cell, check_set: CheckSet, workspace: Workspace) -> Evidence | None:
    """The result of a check set that still holds, None where there is none.

    Raises:
        EvidenceError: it is corrupt.
    """
    if not pipeline.locked(cell, workspace):
        return None
    device = pipeline.device_class()
    path = evidence.path_of(cell.name, device, workspace.results, check_set.name)
    if not path.exists():
        return None
    found = evidence.load(path)
    lock = locks.read(workspace.lock(cell.name)).digest
    suite = check_set.digest(workspace.suite)
    return None if evidence.stale(found, lock=lock, suite=suite, python=cell.python) else found


def run(cell: Cell, check_set: CheckSet, options: Options, context: Context) -> Evidence:
    """Ask a check set in the cell. What was learnt is stored, also of a run that ends early or asks
    only some of the checks: as incomplete, which is never fresh.

    Raises:
        EvidenceError: the checks cannot run, or something was broken on purpose.
        InfrastructureError: they did not come to their end, or the surroundings failed.
        UsageError: the cell cannot be installed or built.
    """
    ready = pipeline.resolved_cell(cell, context)
    base = evidence.start(
        cell,
        device_class=pipeline.device_class(),
        lock=ready.lock.digest,
        suite=check_set.digest(context.workspace.suite),
        wheels={w.path.name: w.sha256 for w in ready.wheels},
        check_set=check_set.name,
    )

    def keep(found: Evidence) -> None:  # at once: whatever ends this process takes nothing away
        _keep(found, context.workspace.results, whole=False)

    with engine.place_of(ready, check_set, context) as place:
        found = engine.ask(check_set, base, place, options, context, Listener(so_far=keep))
    return _keep(found, context.workspace.results, whole=not options.only)


def _keep(found: Evidence, results: Path, *, whole: bool) -> Evidence:
    """Store what was learnt: as incomplete unless the `whole` set was asked."""
    found = replace(found, complete=found.complete and whole)
    evidence.save(found, results)
    return found


def lacking(main: Evidence, digests: Mapping[str, str], workspace: Workspace) -> tuple[str, ...]:
    """Which check sets of `digests` have no result of the cell of `main`, or none that
    still holds. Reads files only; what is corrupt does not count."""
    return tuple(
        name for name, digest in digests.items() if not _holds(name, digest, main, workspace)
    )


def _holds(name: str, digest: str, main: Evidence, workspace: Workspace) -> bool:
    path = evidence.path_of(main.cell, main.device_class, workspace.results, name)
    try:
        found = evidence.load(path, whole=False)
    except (FileNotFoundError, EvidenceError):
        return False
    python = found.pins.get("python", "")
    return not evidence.stale(found, lock=main.lock, suite=digest, python=python)
