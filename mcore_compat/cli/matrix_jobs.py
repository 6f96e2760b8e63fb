"""`matrix` with `--executor`: what `many` does below nox, as jobs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from mcore_compat.base import files
from mcore_compat.base.errors import EvidenceError, InfrastructureError
from mcore_compat.core.cells import Cell
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.results import evidence, fingerprint, verdict
from mcore_compat.results.evidence import Reason
from mcore_compat.run import pipeline
from mcore_compat.run.context import Context, context
from mcore_compat.schedule import matrix_run, nox_engine, plan, survey
from mcore_compat.schedule.jobs import records, schedulers
from mcore_compat.schedule.jobs.drive import Driver, Result
from mcore_compat.schedule.jobs.flags import Flags
from mcore_compat.schedule.jobs.records import Task
from mcore_compat.schedule.jobs.schedulers import Scheduler
from mcore_compat.schedule.jobs.states import Fate
from mcore_compat.schedule.nox_engine import Selection
from mcore_compat.schedule.plan import Known, Plan

BUILD_MINUTES = 60


def device_class(flags: Flags) -> str:
    """The device class that the jobs run on, which need not be this machine's."""
    if flags.scheduler == "local":
        return pipeline.device_class()
    return "gpu" if flags.with_gpus() else "host"


def matrix(selection: Selection, flags: Flags, *, force: bool, dry_run: bool) -> int:
    """Run every selected cell that is not fresh as a job; 0 where all are as expected.

    Raises:
        UsageError: bad input, or submitit is missing.
        InfrastructureError: another process submits already, or the scheduler does not answer.
    """
    here = context()
    device = device_class(flags)
    meant = nox_engine.selected(selection, here, device)
    made = plan.make(meant, force=force)
    if dry_run:
        for line in nox_engine.describe(made, flags.parallel):
            print(line)
        print(f"as jobs of {flags.scheduler}, each of at most {flags.minutes} min")
        return 0
    scheduler = schedulers.of(flags, here.run)
    lock = FileLock(records.folder() / "submitter.lock")
    with files.disk_errors(records.folder()):
        records.folder().mkdir(parents=True, exist_ok=True)
    try:
        with lock.acquire(timeout=0):
            results = _run(made, scheduler, flags, here, device, force=force)
    except Timeout:
        raise InfrastructureError("another process submits jobs already; it goes on") from None
    cells = [known.cell for known in meant]
    ended = survey.survey(cells, here, device)
    failed = {name: r.reason for name, r in results.items() if r.fate is not Fate.DONE}
    return matrix_run.summary(ended, here, device, failed)


def _run(
    made: Plan, scheduler: Scheduler, flags: Flags, here: Context, device: str, *, force: bool
) -> Mapping[str, Result]:
    """Builds first, then cells; what became of each cell that had a job."""
    if not made.todo:
        return {}
    nox_engine.resolve(made.todo, here)
    cells = [known.cell for known in made.todo]
    known = survey.survey(cells, here, device)
    todo = [k for k in plan.make(known, force=force).todo if pipeline.locked(k.cell)]
    builds = [
        Task(name=key, argv=_own("build", cell, plan.package_of(key)))
        for key, cell in sorted(nox_engine.builders(todo).items())
    ]
    if builds:
        minutes = max(flags.minutes, BUILD_MINUTES)
        _driver(records.BUILDS, builds, scheduler, flags, here, minutes).run()
    again = ("--force",) if force else ()
    suite = pipeline.suite_digest()
    tasks = [
        Task(
            name=k.cell.name,
            argv=_own("run", k.cell.name, *again),
            inputs=f"{suite} {files.sha256_file(pipeline.lock_path(k.cell))}",
        )
        for k in todo
    ]
    driver = _driver(records.CELLS, tasks, scheduler, flags, here, flags.minutes)
    driver.said_of = lambda name: _outcome(name, device)
    results = driver.run()
    _note_errors(todo, results, device)
    return results


def _own(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-u", "-m", "mcore_compat.cli", *words)


def _driver(
    kind: str,
    tasks: Sequence[Task],
    scheduler: Scheduler,
    flags: Flags,
    here: Context,
    minutes: int,
) -> Driver:
    return Driver(
        kind=kind,
        tasks=tasks,
        scheduler=scheduler,
        among=records.folder(),
        minutes=minutes,
        attempts=flags.attempts,
        poll=flags.poll,
        say=here.say,
        said_of=lambda name: "done",
    )


def _outcome(name: str, device: str) -> str:
    """What the stored evidence of a cell says."""
    try:
        path = evidence.path_of(name, device)
        return evidence.load(path, whole=False).outcome.value
    except (OSError, EvidenceError):
        return f"no evidence of device class {device}"


def _note_errors(todo: Sequence[Known], results: Mapping[str, Result], device: str) -> None:
    """Store why cells have no verdict, as an error and nothing else; a verdict stays."""
    for known in todo:
        result = results[known.cell.name]
        if result.fate is not Fate.DONE:
            note_error(known.cell, device, result.reason)


def note_error(
    cell: Cell,
    device: str,
    reason: str,
    folder: Path = evidence.FOLDER,
    index: Path = verdict.INDEX,
) -> None:
    """Store that the surroundings failed; complete evidence that is there stays as it is."""
    path = evidence.path_of(cell.name, device, folder)
    told = fingerprint.relative(reason, [str(files.home()), str(files.ROOT)])
    why = Reason(kind="error", message=told, help="run it again: nox -s matrix")
    base = evidence.start(cell, device_class=device)
    with contextlib.suppress(FileNotFoundError, EvidenceError):  # corrupt: replaced
        base = evidence.load(path)
        if base.complete and base.outcome is not CellOutcome.ERROR:
            return
    found = replace(base, outcome=CellOutcome.ERROR, reason=why, complete=False)
    evidence.save(found, folder)
    verdict.note(found, index)
