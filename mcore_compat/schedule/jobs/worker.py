"""What a job does: it runs one task's command to its end and writes down how that came.

Runs on a node, below submitit. The job itself only waits, so that whatever befalls the command
can still be told; where the job is killed outright, the command ends with it.
"""

from __future__ import annotations

import os
import platform
import signal
import time
from pathlib import Path

from mcore_compat.base import process_tree, processes
from mcore_compat.base.errors import Interrupted, UsageError
from mcore_compat.results.evidence import now
from mcore_compat.run.runner import VISIBLE
from mcore_compat.schedule.jobs import records
from mcore_compat.schedule.jobs.records import Batch, Ended, Start, Task

RESTARTS = 3
"""How often the scheduler may start a job again by itself (node failed, preempted)."""

GRACE_S = 8.0
"""What a command gets to end what it started, before all of it is killed."""


class DiedError(Exception):
    """The command came to no verdict: the job is to end as failed, for all who look at it."""


def work(folder: str, name: str, devices: str | None) -> str:
    """Run the task `name` of the batch in `folder`; how it ended, which is on disk by then.

    `devices`: what CUDA_VISIBLE_DEVICES was where the job was submitted. submitit's local executor
    hides all devices; slots are given out by the cell itself.

    Raises:
        DiedError: it came to no verdict.
    """
    batch = records.read(Path(folder))
    task = batch.task(name)
    job, restarts = _identity()
    records.note_start(batch, name, Start(job=job, restarts=restarts, node=_node(), at=now()))
    if batch.scheduler == "local":
        restore(devices)
    started = time.monotonic()
    how, reason = _run(batch, task, restarts)
    seconds = round(time.monotonic() - started, 1)
    ended = Ended(how=how, reason=reason, job=job, restarts=restarts, seconds=seconds)
    records.note_end(batch, name, ended)
    if how != records.VERDICT:
        raise DiedError(f"{name}: {reason}")
    return how


def _identity() -> tuple[str, int]:
    """The job as the scheduler names it, and how often it started it again."""
    from submitit import JobEnvironment

    return JobEnvironment().job_id, int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def _node() -> str:
    return os.environ.get("SLURMD_NODENAME") or platform.node()


def restore(devices: str | None) -> None:
    """Undo what submitit's local executor does to CUDA_VISIBLE_DEVICES."""
    if devices is None:
        os.environ.pop(VISIBLE, None)
    else:
        os.environ[VISIBLE] = devices


def _run(batch: Batch, task: Task, restarts: int) -> tuple[str, str]:
    """How the command ended, and why."""
    from submitit.core.utils import UncompletedJobError

    if restarts > RESTARTS:
        return records.FAILED, f"the scheduler started it again {restarts} times"
    out_of_time = f"the job's time limit of {batch.minutes} min was reached"
    process_tree.adopt_orphans()
    try:
        done = processes.run(
            process_tree.argv(*task.argv),
            timeout=batch.minutes * 60,
            on_line=lambda line: print(line, flush=True),
            grace=GRACE_S,
        )
    except UncompletedJobError:  # raised by submitit where it is warned that time is up
        return records.FAILED, out_of_time
    except KeyboardInterrupt:
        return records.STOPPED, "it was interrupted"
    finally:
        process_tree.end_children()
    if done.timed_out:
        return records.FAILED, out_of_time
    return judged(done)


def judged(done: processes.Completed) -> tuple[str, str]:
    """How a command ended, by its exit code (see `mcore-compat --help`), and its last line."""
    last = ([line.strip() for line in done.output.splitlines() if line.strip()] or [""])[-1]
    said = last.removeprefix("mcore-compat: ")
    if done.returncode in (0, 1):
        return records.VERDICT, ""
    if done.returncode == UsageError.exit_code:
        return records.REFUSED, said
    if done.returncode == Interrupted.exit_code:
        return records.FAILED, "it was interrupted"
    if done.returncode < 0:
        return records.FAILED, f"it was killed by {signal.Signals(-done.returncode).name}"
    return records.FAILED, said or f"it ended with exit code {done.returncode}"
