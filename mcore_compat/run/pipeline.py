"""One cell, end to end: lock → wheelhouse → environment → suite → evidence.

Each stage is another module's; what this one adds is their order, the early exits (fresh,
unresolvable, unbuildable) and the promise that what was learnt is kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mcore_compat.base.errors import (
    EvidenceError,
    InfrastructureError,
    LockError,
    UsageError,
    WrongFileError,
)
from mcore_compat.base.files import home, write_text
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell, moved, plain_name
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.core.workspace import Workspace
from mcore_compat.environments import (
    creation,
    interpreters,
    plain_import,
    recipes,
    wheelhouse,
)
from mcore_compat.environments.te_extension import stand_in
from mcore_compat.environments.te_extension.wheel import PACKAGE
from mcore_compat.environments.wheelhouse import Unbuildable, Wheel
from mcore_compat.resolve import locks, resolution
from mcore_compat.resolve.locks import Lock
from mcore_compat.resolve.resolution import Unresolvable
from mcore_compat.results import evidence, fingerprint, repairs, store, verdict_index
from mcore_compat.results.evidence import STAND_IN, Evidence, Reason
from mcore_compat.run import engine, machine, te_extension
from mcore_compat.run.check_sets import MAIN, CheckSet
from mcore_compat.run.context import Context, Options
from mcore_compat.run.engine import Listener, ResolvedCell
from mcore_compat.run.runner import SuiteEnvironment


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run came to: its evidence, and whether that was there already."""

    evidence: Evidence
    fresh: bool = False


def chosen(name: str, context: Context) -> Cell:
    """The cell of a name: the same combination on every machine."""
    return combinations.named(name, context.matrix, context.releases)


def _holds(axes: Mapping[str, str], cell: Cell) -> bool:
    """Whether a lock of these axes is the cell's, of its newest patches or of older ones."""
    other = {axis for axis, version in cell.pins.items() if axes.get(axis) != version}
    return other <= set(moved(cell, axes))


def locked(cell: Cell, workspace: Workspace) -> bool:
    """Whether the cell has a lock of the newest patches of its series."""
    path = workspace.lock(cell.name)
    return path.exists() and not moved(cell, locks.read(path).axes)


def lock_of(cell: Cell, context: Context, *, anew: bool = False) -> Lock | Unresolvable:
    """The cell's lock: the one that is there, else resolved and written.

    A series stands for its newest patch: a lock of an older one is remade, and taken away where
    the newest cannot be resolved.

    Raises:
        LockError: the file is corrupt, or was made for other versions than the cell's.
        InfrastructureError: the index did not answer.
    """
    path = context.workspace.lock(cell.name)
    if path.exists() and not anew:
        lock = locks.read(path)
        if not _holds(lock.axes, cell):
            raise LockError(
                f"{path.name} was made for other versions; remake it: nox -s lock -- {cell.name}"
            )
        behind = moved(cell, lock.axes)
        if not behind:
            return lock
        changes = ", ".join(f"{axis} {lock.axes[axis]} -> {cell.pins[axis]}" for axis in behind)
        context.say(f"{path.name} is remade for the newest of its series: {changes}")
        newest = _resolved(cell, context)
        if isinstance(newest, Unresolvable):
            path.unlink()
        return newest
    return _resolved(cell, context)


def _resolved(cell: Cell, context: Context) -> Lock | Unresolvable:
    reasons = combinations.violations(cell, context.releases)
    if reasons:
        return Unresolvable(reason="; ".join(reasons))
    context.say(f"resolving {cell.name}")
    lock = resolution.make(
        cell,
        context.matrix,
        context.releases,
        uv=context.uv,
        run=context.run,
        near=_without_further(cell, context),
    )
    if isinstance(lock, Lock):
        path = context.workspace.lock(cell.name)
        with contextlib.suppress(FileNotFoundError, LockError):  # a damaged one tells nothing
            locks.refuse_other_files(lock, locks.read(path))
        write_text(path, lock.text)
    return lock


def _without_further(cell: Cell, context: Context) -> Lock | None:
    """The lock of a cell without the pins that its name asks for beside the axes, from which it is
    to differ in no more than these need; resolved, and not written, where there is none. None where
    nothing is asked for, or that cell cannot be resolved."""
    if not cell.further:
        return None
    path = context.workspace.lock(plain_name(cell.name))
    lock = locks.read(path) if path.exists() else None
    if lock and _holds(lock.axes, cell):
        return lock
    plain = replace(cell, name=plain_name(cell.name), further=())
    made = resolution.make(plain, context.matrix, context.releases, uv=context.uv, run=context.run)
    return made if isinstance(made, Lock) else None


def run_cell(name: str, options: Options, context: Context) -> Outcome:
    """Run one cell to its verdict, or find that its evidence still holds.

    Evidence is written as checks finish. With `only`, nothing is stored: a part of the suite
    is no verdict.

    Raises:
        CompatError: bad input, a missing interpreter, or a failure of the surroundings.
    """
    cell = chosen(name, context)
    results = context.workspace.results
    suite = MAIN.digest(context.workspace.suite)
    device = machine.device_class()
    base = evidence.start(cell, device_class=device, suite=suite)
    if not options.force:
        refused = _still_unresolvable(cell, base, context)
        if refused:
            return Outcome(evidence=refused, fresh=True)
    new = not context.workspace.lock(cell.name).exists()
    resolved = lock_of(cell, context)
    if isinstance(resolved, Unresolvable):
        reason = Reason(kind="unresolvable", message=resolved.reason, help="")
        asked = resolution.asked_for(cell, context.matrix, context.releases)
        base = replace(base, outcome=CellOutcome.UNRESOLVABLE, reason=reason, lock=asked)
        return _ended(base, options, context.workspace)
    base = replace(base, lock=resolved.digest)
    if not options.force and not options.only:
        stored = kept(base, results, te_extension=context.te_extension)
        if stored and holds_here(stored, cell, resolved, context):
            return Outcome(evidence=stored, fresh=True)
    ready = ready_cell(cell, resolved, context)
    if isinstance(ready, Unbuildable):
        return _ended(_unbuildable(base, ready, context.workspace), options, context.workspace)
    try:
        return _suite(base, ready, options, context)
    except WrongFileError:
        if new:  # what the index said of its files was a lie, or is by now
            context.workspace.lock(cell.name).unlink()
        raise


def ready_cell(cell: Cell, lock: Lock, context: Context) -> ResolvedCell | Unbuildable:
    """The cell with its interpreter and wheels, built where they are not there yet.

    Raises:
        CompatError: a missing interpreter, or a failure of the surroundings.
    """
    python = interpreters.find(cell.python, context.run, context.uv)
    wheels = wheels_of(cell, lock, python, context)
    if isinstance(wheels, Unbuildable):
        return wheels
    return ResolvedCell(cell=cell, lock=lock, python=python, wheels=wheels)


def resolved_cell(cell: Cell, context: Context) -> ResolvedCell:
    """As `ready_cell`, with the lock made where there is none.

    Raises:
        UsageError: the cell cannot be installed, or a wheel of it does not build.
        CompatError: a missing interpreter, or a failure of the surroundings.
    """
    lock = lock_of(cell, context)
    if isinstance(lock, Unresolvable):
        raise UsageError(f"{cell.name} cannot be installed: {lock.reason}")
    ready = ready_cell(cell, lock, context)
    if isinstance(ready, Unbuildable):
        raise UsageError(f"{cell.name} cannot be built: {ready.reason}")
    return ready


def _unbuildable(base: Evidence, failed: Unbuildable, workspace: Workspace) -> Evidence:
    """The result of a cell whose wheels do not build.

    Raises:
        InfrastructureError: with the same lock they did, so it is this machine that fails.
    """
    before = _known(base, workspace)
    if before and before.checks:
        how = "was built and run" if before.te_extension == evidence.REAL else "ran on a stand-in"
        raise InfrastructureError(
            f"{base.cell} {how} with the same lock on {before.taken[:10]}, which is kept, and is "
            f"not built now: {failed.reason}; {failed.help}".rstrip("; ")
        )
    message, advice = (
        fingerprint.relative(text, [str(home())]) for text in (failed.reason, failed.help)
    )
    reason = Reason(kind="unbuildable", message=message, help=advice, cause=failed.cause)
    return replace(base, outcome=CellOutcome.UNBUILDABLE, reason=reason)


def holds_here(stored: Evidence, cell: Cell, lock: Lock, context: Context) -> bool:
    """Whether a stored `unbuildable` has not lost its cause on this machine: no wheel is there by
    now, no toolkit or driver that was not there, and nothing stands in. True of every other
    outcome."""
    if stored.outcome is not CellOutcome.UNBUILDABLE:
        return True
    cuda = combinations.cuda_of(cell.torch, context.matrix, context.releases)
    real = te_extension.chosen(cell, lock, context) == evidence.REAL
    built = [pin for pin in lock.source_only if real or pin.name != PACKAGE]
    now = wheelhouse.causes(built, cell, cuda, context.run)
    return stored.reason is not None and stored.reason.cause in now


def _still_unresolvable(cell: Cell, base: Evidence, context: Context) -> Evidence | None:
    """The stored evidence that the index says no, where it would be asked the very same again."""
    path = evidence.path_of(cell.name, base.device_class, context.workspace.results)
    if context.workspace.lock(cell.name).exists() or not path.exists():
        return None
    last = store.load(path)
    asked = resolution.asked_for(cell, context.matrix, context.releases)
    return last if last.outcome is CellOutcome.UNRESOLVABLE and last.lock == asked else None


def kept(
    base: Evidence, results: Path, *, whole: bool = True, te_extension: str | None = None
) -> Evidence | None:
    """The stored result of what `base` is the beginning of, where it still holds, for the
    `te_extension` that is asked for.

    Raises:
        EvidenceError: it is corrupt.
    """
    path = evidence.path_of(base.cell, base.device_class, results, base.check_set)
    if not path.exists():
        return None
    stored = store.load(path, whole=whole)
    python = base.pins.get("python", "")
    why = evidence.stale(
        stored, lock=base.lock, suite=base.suite, python=python, te_extension=te_extension
    )
    return None if why else stored


def lacking(main: Evidence, digests: Mapping[str, str], workspace: Workspace) -> tuple[str, ...]:
    """Which check sets of `digests` have no result of the cell of `main`, or none that
    still holds. Reads files only; what is corrupt does not count."""

    def holds(name: str, digest: str) -> bool:
        base = replace(main, check_set=name, suite=digest)
        with contextlib.suppress(EvidenceError):
            return kept(base, workspace.results, whole=False) is not None
        return False

    return tuple(name for name, digest in digests.items() if not holds(name, digest))


def wheels_of(
    cell: Cell,
    lock: Lock,
    python: Path,
    context: Context,
    only: str | None = None,
    arch: str | None = None,
    extension: str | None = None,
) -> tuple[Wheel, ...] | Unbuildable:
    """The cell's wheels from the wheelhouse, built where they are not there yet.

    `only`: of this package alone; `arch`: the GPU architecture of another machine (`sm_90`) that
    kernels are compiled for; `extension`: of Transformer Engine, None: as `run.te_extension` has
    it.
    """
    extension = extension or te_extension.chosen(cell, lock, context)
    job = wheelhouse.Job(
        cell=cell,
        lock=lock,
        cuda=combinations.cuda_of(cell.torch, context.matrix, context.releases),
        python=python,
        uv=context.uv,
        run=context.run,
        say=context.say,
        arch=arch,
    )
    order = list(recipes.RECIPES)
    wheels: list[Wheel] = []
    wanted = [pin for pin in lock.source_only if only in (None, pin.name)]
    for pin in sorted(wanted, key=lambda p: order.index(p.name)):
        if pin.name == PACKAGE and extension == STAND_IN:
            wheels.append(stand_in.ensure(pin, context.say))
            continue
        wheel = wheelhouse.ensure(pin, job)
        if isinstance(wheel, Unbuildable):
            return wheel
        wheels.append(wheel)
    return tuple(wheels)


def _suite(base: Evidence, ready: ResolvedCell, options: Options, context: Context) -> Outcome:
    results = context.workspace.results
    base = ready.started(base)
    stored = _replaced(base, options, context)
    listener = Listener(so_far=lambda e: store.save(e, results)) if stored else Listener()
    with engine.place_of(ready, MAIN, context) as place:
        # A stand-in is imported without what the real one needs.
        if not options.only and base.te_extension == evidence.REAL:
            base = replace(base, variables=_variables(ready, place, context))
        before = _known(base, context.workspace)
        result = engine.ask(MAIN, base, place, options, context, listener, before)
    return _ended(result, options, context.workspace) if stored else Outcome(evidence=result)


def _replaced(base: Evidence, options: Options, context: Context) -> bool:
    """Whether what a run learns is stored: not where only some of the checks are asked for, nor in
    the place of what tells more."""
    there = _stored(base, context.workspace)
    holds = there is not None and kept(base, context.workspace.results) is not None
    if te_extension.gives_way(there, base, context, holds=holds):
        return not options.only
    context.say(
        f"{base.cell}: the stored result is of the real extension of Transformer Engine and holds: "
        "it stays; --te-extension stand-in has this run's take its place"
    )
    return False


def _variables(
    ready: ResolvedCell, place: SuiteEnvironment, context: Context
) -> Mapping[str, str] | None:
    """What who installs the cell's packages has to set; None where that cannot be told."""
    pins = {"python": ready.cell.python, **creation.wanted(ready.lock)}
    return plain_import.needed(place.python, place.variables, pins, context.run, context.say)


def _ended(result: Evidence, options: Options, workspace: Workspace) -> Outcome:
    """What a run came to, stored; not where only some of the checks were asked for."""
    if not options.only:
        store.save(result, workspace.results)
        if not workspace.machine:
            (published,), _ = repairs.applied_to_all([result], workspace.results)
            verdict_index.note(published, workspace.verdicts)
    return Outcome(evidence=result)


def _stored(base: Evidence, workspace: Workspace) -> Evidence | None:
    """The result that is there of what `base` is the beginning of; None where there is none, or
    one that cannot be read, which is replaced."""
    path = evidence.path_of(base.cell, base.device_class, workspace.results, base.check_set)
    with contextlib.suppress(FileNotFoundError, EvidenceError):
        return store.load(path, whole=False)
    return None


def _known(base: Evidence, workspace: Workspace) -> Evidence | None:
    """The result with which what is to be run must not disagree unsaid: the stored one; of a
    machine's own runs, where this is the first, the published one."""
    for place in (workspace, Workspace(workspace.root)):
        known = _stored(base, place)
        if known and known.lock == base.lock:
            return known
    return None


def run_part(cell: Cell, check_set: CheckSet, options: Options, context: Context) -> Outcome:
    """Ask a check set beside the main one in the cell, or find that its result still holds. What
    was learnt is stored, also of a run that ends early or asks only some of the checks: as
    incomplete, which is never fresh.

    Raises:
        EvidenceError: the checks cannot run, something was broken on purpose, or what is stored is
            corrupt.
        InfrastructureError: they did not come to their end, or the surroundings failed.
        UsageError: the cell cannot be installed or built.
    """
    workspace = context.workspace
    digest = check_set.digest(workspace.suite)
    base = evidence.start(
        cell, device_class=machine.device_class(), suite=digest, check_set=check_set.name
    )
    if not options.force and not options.only and locked(cell, workspace):
        lock = locks.read(workspace.lock(cell.name))
        stored = kept(
            replace(base, lock=lock.digest),
            workspace.results,
            te_extension=context.te_extension,
        )
        if stored:
            return Outcome(evidence=stored, fresh=True)
    ready = resolved_cell(cell, context)
    base = ready.started(base)
    replaced = _replaced(base, replace(options, only=None), context)

    def keep(result: Evidence, *, whole: bool = False) -> Outcome:
        result = replace(result, complete=result.complete and whole)
        if replaced:
            store.save(result, workspace.results)
        return Outcome(evidence=result)

    # Kept as it comes: whatever ends this process takes nothing away.
    with engine.place_of(ready, check_set, context) as place:
        before = _known(base, workspace)
        listener = Listener(so_far=keep)
        result = engine.ask(check_set, base, place, options, context, listener, before)
    return keep(result, whole=not options.only)
