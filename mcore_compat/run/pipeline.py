"""One cell, end to end: lock → wheelhouse → environment → suite → result.

Each stage is another module's; this one adds their order, the early exits (up to date,
unresolvable, unbuildable), and that results are stored as they come.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mcore_compat.base.errors import (
    InfrastructureError,
    LockError,
    ResultError,
    UsageError,
    WrongFileError,
)
from mcore_compat.base.files import home, write_text
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell, is_series, moved, plain_name
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
from mcore_compat.results import fingerprint, repairs, store, verdict_index
from mcore_compat.results.result import (
    REAL,
    STAND_IN,
    Reason,
    Result,
    empty_result,
    out_of_date,
    result_path,
)
from mcore_compat.run import engine, machine, te_extension
from mcore_compat.run.check_sets import MAIN, CheckSet
from mcore_compat.run.context import Context, Options
from mcore_compat.run.engine import Listener, ResolvedCell
from mcore_compat.run.runner import SuiteEnvironment


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of a run: its result, and whether that was up to date, so that nothing ran."""

    result: Result
    fresh: bool = False


def chosen(name: str, context: Context) -> Cell:
    """The cell of a name: the same combination on every machine."""
    return combinations.named(name, context.matrix, context.releases)


def _holds(axes: Mapping[str, str], cell: Cell) -> bool:
    """Whether a lock with these versions of the axes is the cell's, also of older patches."""
    other = {axis for axis, version in cell.pins.items() if axes.get(axis) != version}
    return other <= set(moved(cell, axes))


def locked(cell: Cell, workspace: Workspace) -> bool:
    """Whether the cell has a lock of the newest patches of its series."""
    path = workspace.lock(cell.name)
    return path.exists() and not moved(cell, locks.read(path).axes)


def lock_of(cell: Cell, context: Context, *, anew: bool = False) -> Lock | Unresolvable:
    """The cell's lock: the existing one, else resolved and written; `anew`: always resolved.

    A series stands for its newest patch: a lock of an older one is replaced, and removed if the
    newest cannot be resolved.

    Raises:
        LockError: the file is corrupt, or was made for other versions than the cell's.
        InfrastructureError: the index did not answer.
    """
    path = context.workspace.lock(cell.name)
    if path.exists() and not anew:
        lock = locks.read(path)
        if not _holds(lock.axes, cell):
            raise LockError(
                f"{path.name} is for other versions; update it: nox -s lock -- {cell.name}"
            )
        behind = moved(cell, lock.axes)
        if not behind:
            return lock
        changes = ", ".join(f"{axis} {lock.axes[axis]} -> {cell.pins[axis]}" for axis in behind)
        context.say(f"updating {path.name} to the newest patches: {changes}")
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
        with contextlib.suppress(FileNotFoundError, LockError):  # a damaged lock is ignored
            locks.refuse_other_files(lock, locks.read(path))
        write_text(path, lock.text)
    return lock


def _without_further(cell: Cell, context: Context) -> Lock | None:
    """The lock of a cell without its further pins, from which its own should differ as little as
    possible; resolved, but not written, if there is none. None without further pins, or if it
    cannot be resolved."""
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
    """Run one cell to its verdict, or find that its result is up to date.

    The result is written as checks finish. With `only`, nothing is stored: a part of the suite
    gives no verdict.

    Raises:
        CompatError: bad input, a missing interpreter, or an infrastructure error.
    """
    cell = chosen(name, context)
    results = context.workspace.results
    suite = MAIN.digest(context.workspace.suite)
    device = machine.device_class()
    base = empty_result(cell, device_class=device, suite=suite)
    if not options.force:
        refused = _still_unresolvable(cell, base, context)
        if refused:
            return Outcome(result=refused, fresh=True)
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
            return Outcome(result=stored, fresh=True)
    ready = ready_cell(cell, resolved, context)
    if isinstance(ready, Unbuildable):
        return _ended(_unbuildable(base, ready, context.workspace), options, context.workspace)
    try:
        return _suite(base, ready, options, context)
    except WrongFileError:
        if new:  # the index has other files than it listed
            context.workspace.lock(cell.name).unlink()
        raise


def ready_cell(cell: Cell, lock: Lock, context: Context) -> ResolvedCell | Unbuildable:
    """The cell with its interpreter and wheels; missing wheels are built.

    Raises:
        CompatError: a missing interpreter, or an infrastructure error.
    """
    python = interpreters.find(cell.python, context.run, context.uv)
    wheels = wheels_of(cell, lock, python, context)
    if isinstance(wheels, Unbuildable):
        return wheels
    return ResolvedCell(cell=cell, lock=lock, python=python, wheels=wheels)


def resolved_cell(cell: Cell, context: Context) -> ResolvedCell:
    """As `ready_cell`; also creates a missing lock.

    Raises:
        UsageError: the cell cannot be installed, or a wheel of it does not build.
        CompatError: a missing interpreter, or an infrastructure error.
    """
    lock = lock_of(cell, context)
    if isinstance(lock, Unresolvable):
        raise UsageError(f"{cell.name} cannot be installed: {lock.reason}")
    ready = ready_cell(cell, lock, context)
    if isinstance(ready, Unbuildable):
        raise UsageError(f"{cell.name} cannot be built: {ready.reason}")
    return ready


def _unbuildable(base: Result, failed: Unbuildable, workspace: Workspace) -> Result:
    """The result of a cell whose wheels do not build.

    Raises:
        InfrastructureError: they did build with the same lock, so this machine is the cause.
    """
    before = _known(base, workspace)
    if before and before.checks:
        how = "was built and run" if before.te_extension == REAL else "ran on a stand-in"
        raise InfrastructureError(
            f"{base.cell} {how} with the same lock on {before.taken[:10]} (that result stays), but "
            f"does not build now: {failed.reason}; {failed.help}".rstrip("; ")
        )
    message, advice = (
        fingerprint.portable(text, [str(home())]) for text in (failed.reason, failed.help)
    )
    reason = Reason(kind="unbuildable", message=message, help=advice, cause=failed.cause)
    return replace(base, outcome=CellOutcome.UNBUILDABLE, reason=reason)


def holds_here(stored: Result, cell: Cell, lock: Lock, context: Context) -> bool:
    """Whether a stored `unbuildable` still has its cause on this machine: no new wheel, toolkit or
    driver, and no stand-in. True for every other outcome."""
    if stored.outcome is not CellOutcome.UNBUILDABLE:
        return True
    cuda = combinations.cuda_of(cell.torch, context.matrix, context.releases)
    real = te_extension.chosen(cell, lock, context) == REAL
    built = [pin for pin in lock.source_only if real or pin.name != PACKAGE]
    now = wheelhouse.causes(built, cell, cuda, context.run)
    return stored.reason is not None and stored.reason.cause in now


def _still_unresolvable(cell: Cell, base: Result, context: Context) -> Result | None:
    """The stored `unresolvable` result, if the input of the resolver is still the same. With a pin
    of a whole series it may not be: each new release of the series moves the lock's date."""
    if any(is_series(pin) for pin in cell.further):
        return None
    path = result_path(cell.name, base.device_class, context.workspace.results)
    if context.workspace.lock(cell.name).exists() or not path.exists():
        return None
    last = store.load(path)
    asked = resolution.asked_for(cell, context.matrix, context.releases)
    return last if last.outcome is CellOutcome.UNRESOLVABLE and last.lock == asked else None


def kept(
    base: Result, results: Path, *, whole: bool = True, te_extension: str | None = None
) -> Result | None:
    """The stored result for a started one (`base`), if it is up to date and has the `te_extension`
    of the option.

    Raises:
        ResultError: it is corrupt.
    """
    path = result_path(base.cell, base.device_class, results, base.check_set)
    if not path.exists():
        return None
    stored = store.load(path, whole=whole)
    python = base.pins.get("python", "")
    why = out_of_date(
        stored, lock=base.lock, suite=base.suite, python=python, te_extension=te_extension
    )
    return None if why else stored


def lacking(main: Result, digests: Mapping[str, str], workspace: Workspace) -> tuple[str, ...]:
    """Which check sets of `digests` have no result of the cell of `main` that is up to date. Reads
    files only; corrupt ones do not count."""

    def holds(name: str, digest: str) -> bool:
        base = replace(main, check_set=name, suite=digest)
        with contextlib.suppress(ResultError):
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
    """The cell's wheels from the wheelhouse; missing ones are built.

    `only`: of this package alone; `arch`: the GPU architecture of another machine (`sm_90`) that
    kernels are compiled for; `extension`: of Transformer Engine, None: chosen by
    `run.te_extension`.
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


def _suite(base: Result, ready: ResolvedCell, options: Options, context: Context) -> Outcome:
    results = context.workspace.results
    base = ready.started(base)
    stored = _replaced(base, options, context)
    listener = Listener(so_far=lambda e: store.save(e, results)) if stored else Listener()
    with engine.place_of(ready, MAIN, context) as place:
        # A stand-in needs none of the variables of the real one.
        if not options.only and base.te_extension == REAL:
            base = replace(base, variables=_variables(ready, place, context))
        before = _known(base, context.workspace)
        result = engine.ask(MAIN, base, place, options, context, listener, before)
    return _ended(result, options, context.workspace) if stored else Outcome(result=result)


def _replaced(base: Result, options: Options, context: Context) -> bool:
    """Whether a run is stored: not if only some of the checks run, nor if a stand-in would replace
    a result of the real extension."""
    there = _stored(base, context.workspace)
    holds = there is not None and kept(base, context.workspace.results) is not None
    if te_extension.gives_way(there, base, context, holds=holds):
        return not options.only
    context.say(
        f"{base.cell}: the stored result, of the real extension of Transformer Engine, is up to "
        "date and stays; to replace it: --te-extension stand-in"
    )
    return False


def _variables(
    ready: ResolvedCell, place: SuiteEnvironment, context: Context
) -> Mapping[str, str] | None:
    """The variables that users of the cell's packages must set; None if unknown."""
    pins = {"python": ready.cell.python, **creation.wanted(ready.lock)}
    return plain_import.needed(place.python, place.variables, pins, context.run, context.say)


def _ended(result: Result, options: Options, workspace: Workspace) -> Outcome:
    """The outcome of a run, stored unless only some of the checks ran."""
    if not options.only:
        store.save(result, workspace.results)
        if not workspace.machine:
            (published,), _ = repairs.applied_to_all([result], workspace.results)
            verdict_index.note(published, workspace.verdicts)
    return Outcome(result=result)


def _stored(base: Result, workspace: Workspace) -> Result | None:
    """The stored result for a started one (`base`); None if there is none, or it cannot be read (it
    will be replaced)."""
    path = result_path(base.cell, base.device_class, workspace.results, base.check_set)
    with contextlib.suppress(FileNotFoundError, ResultError):
        return store.load(path, whole=False)
    return None


def _known(base: Result, workspace: Workspace) -> Result | None:
    """The result to compare a run with: the stored one; for the first own run of a machine, the
    published one."""
    for place in (workspace, Workspace(workspace.root)):
        known = _stored(base, place)
        if known and known.lock == base.lock:
            return known
    return None


def run_part(cell: Cell, check_set: CheckSet, options: Options, context: Context) -> Outcome:
    """Run a check set beside the main one in the cell, or find that its result is up to date. Also
    a run that ends early, or runs only some of the checks, is stored: as incomplete, which is
    always out of date.

    Raises:
        ResultError: the checks cannot run, something was broken on purpose, or the stored result
            is corrupt.
        InfrastructureError: they did not run to the end, or an infrastructure error.
        UsageError: the cell cannot be installed or built.
    """
    workspace = context.workspace
    digest = check_set.digest(workspace.suite)
    base = empty_result(
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
            return Outcome(result=stored, fresh=True)
    ready = resolved_cell(cell, context)
    base = ready.started(base)
    replaced = _replaced(base, replace(options, only=None), context)

    def keep(result: Result, *, whole: bool = False) -> Outcome:
        result = replace(result, complete=result.complete and whole)
        if replaced:
            store.save(result, workspace.results)
        return Outcome(result=result)

    # Stored as it comes, so that nothing is lost however this process ends.
    with engine.place_of(ready, check_set, context) as place:
        before = _known(base, workspace)
        listener = Listener(so_far=keep)
        result = engine.ask(check_set, base, place, options, context, listener, before)
    return keep(result, whole=not options.only)
