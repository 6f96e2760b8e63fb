"""Many cells as jobs, on this machine or on Slurm: locks first, then wheels, then the cells."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import FileLock, Timeout

from mcore_compat.base import files
from mcore_compat.base.errors import ExitCode, InfrastructureError, ResultError
from mcore_compat.core.cells import Cell
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.core.workspace import Workspace
from mcore_compat.publish.rendering import render
from mcore_compat.resolve.resolution import Unresolvable
from mcore_compat.results import fingerprint, store, verdict_index
from mcore_compat.results.result import Reason, Result, empty_result, result_path
from mcore_compat.run import cells, machine, pipeline
from mcore_compat.run.check_sets import MAIN
from mcore_compat.run.context import Context, Options
from mcore_compat.schedule import plan
from mcore_compat.schedule.jobs import records, schedulers
from mcore_compat.schedule.jobs.drive import Driver
from mcore_compat.schedule.jobs.job_options import LOCAL, JobOptions
from mcore_compat.schedule.jobs.records import Task
from mcore_compat.schedule.jobs.schedulers import Scheduler
from mcore_compat.schedule.jobs.states import Fate
from mcore_compat.schedule.plan import CellStatus, RunPlan
from mcore_compat.schedule.survey import build_records, survey

BUILD_MINUTES = 60

RESOLVERS = 12
"""Cells that are resolved at a time, on any number of cores: resolving mostly waits for the
index."""


@dataclass(frozen=True, kw_only=True)
class MatrixResult:
    """The state of every selected cell, and by name why a cell has no verdict. `before`: the
    published results of the cells that were to run."""

    states: tuple[CellStatus, ...]
    failed: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, Result | None] = field(default_factory=dict)


def device_class(options: JobOptions) -> str:
    """The device class that the jobs run on, which need not be this machine's."""
    if options.scheduler == LOCAL:
        return machine.device_class()
    return "gpu" if options.with_gpus() else "host"


def describe(run_plan: RunPlan, options: JobOptions, workspace: Workspace) -> str:
    """The plan and its cost."""
    return render(
        "run_plan.txt",
        plan=run_plan,
        options=options,
        unlocked=sum(not pipeline.locked(state.cell, workspace) for state in run_plan.todo),
        minutes=run_plan.minutes(options.parallel, recorded_builds()),
    )


def recorded_builds() -> dict[str, float]:
    """By package: the longest recorded build in the wheelhouse, in seconds."""
    longest: dict[str, float] = {}
    for key, record in build_records().items():
        package = plan.package_of(key)
        longest[package] = max(longest.get(package, 0.0), record.get("seconds", 0.0))
    return longest


def run(
    states: Sequence[CellStatus], context: Context, options: JobOptions, *, force: bool = False
) -> MatrixResult:
    """Run the cells whose results are out of date, each as a job.

    Raises:
        UsageError: bad input, or submitit is missing.
        InfrastructureError: another process submits jobs, or the scheduler does not answer.
        KeyboardInterrupt: the jobs on this machine were ended; the next run continues.
    """
    todo = plan.make(states, force=force).todo
    if not todo:
        return MatrixResult(states=tuple(states))
    device = device_class(options)
    before = {s.cell.name: _published(s.cell.name, device, context.workspace) for s in todo}
    scheduler = schedulers.of(options, context.run)
    with contextlib.closing(scheduler), _alone(scheduler):
        failed = _run(states, scheduler, options, context, device, force=force)
    after = survey([s.cell for s in states], context, device)
    return MatrixResult(states=after, failed=failed, before=before)


def _published(name: str, device: str, workspace: Workspace) -> Result | None:
    """The result of a cell's main suite; None if there is none, or it cannot be read."""
    with contextlib.suppress(FileNotFoundError, ResultError):
        return store.load(result_path(name, device, workspace.results), whole=False)
    return None


@contextlib.contextmanager
def _alone(scheduler: Scheduler) -> Iterator[None]:
    """A lock: no other process submits or adopts jobs that outlive their submitter."""
    folder = records.folder()
    with files.disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        if scheduler.outlives:
            try:
                held.enter_context(FileLock(folder / "submitter.lock", timeout=0))
            except Timeout:
                why = "another process is submitting jobs and continues; wait for it, or end it"
                raise InfrastructureError(why) from None
        yield


def _run(
    states: Sequence[CellStatus],
    scheduler: Scheduler,
    options: JobOptions,
    context: Context,
    device: str,
    *,
    force: bool,
) -> Mapping[str, str]:
    """Locks, then builds, then cells; by name, why a cell has no verdict."""
    stale = plan.make(states, force=force).todo
    failed = resolve(stale, context)
    states = survey([state.cell for state in stale], context, device)
    todo = [
        s for s in plan.make(states, force=force).todo if pipeline.locked(s.cell, context.workspace)
    ]

    driver = functools.partial(
        Driver,
        scheduler=scheduler,
        among=records.folder(),
        attempts=options.attempts,
        poll=options.poll,
        say=context.say,
    )
    builds = [
        Task(name=key, argv=_command("build", cell, plan.package_of(key)))
        for key, cell in sorted(builders(todo).items())
    ]
    if builds:
        minutes = max(options.minutes, BUILD_MINUTES)
        driver(
            kind=records.BUILDS, tasks=builds, minutes=minutes, outcome_of=lambda _: "done"
        ).run()
    again = ("--force",) if force else ()
    if context.te_extension:
        again = (*again, "--te-extension", context.te_extension)
    suite = MAIN.digest(context.workspace.suite)
    tasks = [
        Task(
            name=state.cell.name,
            argv=_command("run", state.cell.name, "--publish", *again),
            inputs=f"{suite} {files.sha256_file(context.workspace.lock(state.cell.name))}",
        )
        for state in todo
    ]
    results = driver(
        kind=records.CELLS,
        tasks=tasks,
        minutes=options.minutes,
        outcome_of=lambda name: _outcome(name, device, context.workspace.results),
    ).run()
    for state in todo:
        result = results[state.cell.name]
        if result.fate is not Fate.DONE:
            note_error(state.cell, device, result.reason, context.workspace)
            failed[state.cell.name] = result.reason
    return failed


def resolve(todo: Sequence[CellStatus], context: Context) -> dict[str, str]:
    """Create the locks that are missing or of an older patch; a cell that cannot be resolved gets
    its result here. By name, why a cell has no lock: the index did not answer."""
    failed: dict[str, str] = {}
    quiet = replace(context, say=lambda line: None)

    def lock(cell: Cell) -> None:
        if context.workspace.lock(cell.name).exists():  # of an older patch: keep its stack
            cell = pipeline.chosen(cell.name, quiet)
        try:
            if isinstance(pipeline.lock_of(cell, quiet), Unresolvable):
                pipeline.run_cell(cell.name, Options(), quiet)
        except InfrastructureError as error:
            failed[cell.name] = str(error)

    cells = [state.cell for state in todo if not pipeline.locked(state.cell, context.workspace)]
    if cells:
        context.say(f"resolving {len(cells)} cells")
    with ThreadPoolExecutor(max_workers=RESOLVERS) as pool:
        for number, _ in enumerate(pool.map(lock, cells), start=1):
            if number % 20 == 0:
                context.say(f"  {number} of {len(cells)} resolved")
    return failed


def builders(todo: Sequence[CellStatus]) -> dict[str, str]:
    """By key of a missing wheel: the first cell that needs it, which builds it for all."""
    by_key: dict[str, str] = {}
    for state in todo:
        for key in state.missing:
            by_key.setdefault(key, state.cell.name)
    return by_key


def _command(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-u", "-m", "mcore_compat.cli", *words)


def _outcome(name: str, device: str, folder: Path) -> str:
    """The outcome in the stored result of a cell."""
    try:
        path = result_path(name, device, folder)
        return store.load(path, whole=False).outcome.value
    except (OSError, ResultError):
        return f"no result for device class {device}"


def note_error(cell: Cell, device: str, reason: str, workspace: Workspace) -> None:
    """Store an infrastructure error; a complete result stays as it is."""
    path = result_path(cell.name, device, workspace.results)
    message = fingerprint.portable(reason, [str(files.home()), str(workspace.root)])
    why = Reason(kind="error", message=message, help="run it again: nox -s matrix")
    base = empty_result(cell, device_class=device)
    with contextlib.suppress(FileNotFoundError, ResultError):  # corrupt: replaced
        base = store.load(path)
        if base.complete and base.outcome is not CellOutcome.ERROR:
            return
    failed = replace(base, outcome=CellOutcome.ERROR, reason=why, complete=False)
    store.save(failed, workspace.results)
    verdict_index.note(failed, workspace.verdicts)


def report(run_result: MatrixResult, context: Context, device: str) -> int:
    """Print the results of a run; the exit code. With a profile, 0 if all cells are compatible for
    it; without one, 0 if every failure of the cells that ran is declared in the matrix or was
    published before."""
    left = {state.cell.name: state.state for state in run_result.states if not state.fresh}
    left.update(run_result.failed)
    cell_outcomes = {outcome.value for outcome in CellOutcome}
    outcomes = Counter(o for s in run_result.states for o in s.outcomes if o in cell_outcomes)
    print(
        f"{len(run_result.states)} cells: "
        + ", ".join(f"{o} {n}" for o, n in sorted(outcomes.items()))
    )
    for name, why in sorted(left.items()):
        print(f"{name}: not done: {why}")
    if left:
        return InfrastructureError.exit_code
    folder = context.workspace.results
    paths = [result_path(state.cell.name, device, folder) for state in run_result.states]
    results = [store.load(path, whole=False) for path in paths]
    ran = [result for result in results if result.cell in run_result.before]
    code = cells.together([cells.verdict_code(result, context) for result in results])
    if context.profile is None:
        before = run_result.before
        code = _news([cells.unexpected(e, before[e.cell], context.matrix) for e in ran])
    return cells.outlived(ran, context.matrix) or code


def _news(reasons: Sequence[str]) -> int:
    """Print the new failures of the cells that ran, each in a line; the exit code."""
    new = [why for why in reasons if why]
    for why in new:
        print(f"new failure: {why}")
    if not new:
        return 0
    said = f"{len(new)} of {len(reasons)} cells that ran have a new failure; the first: {new[0]}"
    return ExitCode(1, said)
