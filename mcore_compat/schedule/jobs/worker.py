"""What a job does: it runs one task's command and records how it ended.

On a node it runs below submitit, on this machine as `python -m … FOLDER NAME`. The job itself only
waits, so that it can record however the command ends; if the job is killed, the command ends with
it.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import time
from pathlib import Path

from mcore_compat.base import process_tree, processes
from mcore_compat.base.errors import Interrupted, UsageError
from mcore_compat.results.result import now
from mcore_compat.schedule.jobs import records
from mcore_compat.schedule.jobs.job_options import LOCAL
from mcore_compat.schedule.jobs.records import Batch, JobEnd, JobStart, Task

RESTARTS = 3
"""The maximum number of restarts by the scheduler itself (node failure, preemption)."""

GRACE_S = 8.0
"""Seconds for a command to end its processes, before all are killed."""


class DiedError(Exception):
    """The command gave no verdict; it makes the job end as failed."""


def work(folder: str, name: str) -> str:
    """Run the task `name` of the batch in `folder`; returns how it ended, after recording that.

    Raises:
        DiedError: it gave no verdict.
    """
    batch = records.read(Path(folder))
    job, restarts = _identity(batch)
    node = os.environ.get("SLURMD_NODENAME") or platform.node()
    records.note_start(batch, name, JobStart(job=job, restarts=restarts, node=node, at=now()))
    started = time.monotonic()
    how, reason = _run(batch, batch.task(name), restarts)
    seconds = round(time.monotonic() - started, 1)
    end = JobEnd(how=how, reason=reason, job=job, restarts=restarts, seconds=seconds)
    records.note_end(batch, name, end)
    if how != records.VERDICT:
        raise DiedError(f"{name}: {reason}")
    return how


def _identity(batch: Batch) -> tuple[str, int]:
    """The scheduler's name of the job, and the number of its restarts."""
    if batch.scheduler == LOCAL:
        return str(os.getpid()), 0
    from submitit import JobEnvironment

    return JobEnvironment().job_id, int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def _warning() -> tuple[type[BaseException], ...]:
    """The exception of submitit at Slurm's warning that time is up; empty without submitit."""
    try:
        from submitit.core.utils import UncompletedJobError
    except ImportError:
        return ()
    return (UncompletedJobError,)


def _run(batch: Batch, task: Task, restarts: int) -> tuple[str, str]:
    """How the command ended, and why."""
    if restarts > RESTARTS:
        return records.FAILED, f"the scheduler restarted it {restarts} times"
    out_of_time = f"the job's time limit of {batch.minutes} min was reached"
    process_tree.adopt_orphans()
    try:
        done = processes.run(
            process_tree.argv(*task.argv),
            timeout=batch.minutes * 60,
            on_line=lambda line: print(line, flush=True),
            grace=GRACE_S,
        )
    except _warning():
        return records.FAILED, out_of_time
    except KeyboardInterrupt:
        return records.STOPPED, "it was interrupted"
    finally:
        process_tree.end_children()
    return (records.FAILED, out_of_time) if done.timed_out else judged(done)


def judged(done: processes.Completed) -> tuple[str, str]:
    """How a command ended, from its exit code (see `mcore-compat --help`) and its last line."""
    last = ([line.strip() for line in done.output.splitlines() if line.strip()] or [""])[-1]
    message = last.removeprefix("mcore-compat: ")
    if done.returncode in (0, 1):
        return records.VERDICT, ""
    if done.returncode == UsageError.exit_code:
        return records.REFUSED, message
    if done.returncode == Interrupted.exit_code:
        return records.FAILED, "it was interrupted"
    if done.returncode < 0:
        return records.FAILED, f"it was killed by {signal.Signals(-done.returncode).name}"
    return records.FAILED, message or f"it ended with exit code {done.returncode}"


def main() -> int:
    """A job on this machine; SIGTERM ends it and all its processes, as Ctrl-C would."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        work(*sys.argv[1:])
    except (DiedError, KeyboardInterrupt):
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
