"""The two schedulers: this machine, and Slurm through submitit.

submitit uses only sacct for the state of jobs. Accounting may be missing, and lags behind: this
uses squeue, and sacct only for jobs that squeue has forgotten.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from mcore_compat.base import process_marks, process_tree, processes
from mcore_compat.base.errors import InfrastructureError, UsageError
from mcore_compat.base.processes import Runner
from mcore_compat.schedule.jobs import records, states, worker
from mcore_compat.schedule.jobs.job_options import LOCAL, JobOptions, is_of_gpus
from mcore_compat.schedule.jobs.records import Batch
from mcore_compat.schedule.jobs.states import JobState

ASK_S = 60.0
"""Time limit of squeue and sacct, in seconds."""

WARN_S = 60
"""Seconds before its time limit at which a job gets a warning signal."""

END_S = 15.0
"""Seconds that jobs on this machine get to end after SIGTERM."""


class Scheduler(ABC):
    """The interface of a scheduler."""

    name: str
    outlives: bool
    """Whether jobs outlive their submitter."""

    grace: float
    """Seconds until a job's files are visible here, after the scheduler reports its end."""

    @abstractmethod
    def submit(self, batch: Batch) -> Sequence[str]:
        """Submit a batch; returns its jobs, in the order of its tasks."""

    @abstractmethod
    def look(self, batches: Sequence[Batch]) -> dict[str, JobState] | None:
        """The known states by job; None if the scheduler does not answer."""

    def find(self, batch: Batch) -> Sequence[str] | None:
        """The jobs of a batch whose submitter was killed before it recorded them; None: no jobs."""
        return None

    def cancel(self, job: str) -> None:  # noqa: B027
        """End a queued job; a job that has ended is ignored."""

    def close(self) -> None:  # noqa: B027
        """End the jobs that must not outlive their submitter."""


class SlurmScheduler(Scheduler):
    """Slurm: a batch is an array of jobs, with its own limit of parallel jobs."""

    name = "slurm"
    outlives = True
    grace = 20.0

    def __init__(self, options: JobOptions, run: Runner) -> None:
        try:
            import submitit
        except ImportError:
            raise UsageError(
                "submitit is not installed; it comes with: pip install 'mcore-compat[slurm]'"
            ) from None
        self._submitit = submitit
        self._options = options
        self._run = run
        self._accounting = True

    def submit(self, batch: Batch) -> Sequence[str]:
        """As `Scheduler.submit`.

        Raises:
            UsageError: Slurm refuses; has the message of sbatch.
        """
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            executor = self._submitit.SlurmExecutor(folder=batch.folder / "jobs")
            executor.update_parameters(**self.parameters(batch))
            calls: list[Callable[[], str]] = [
                functools.partial(worker.work, str(batch.folder), task.name) for task in batch.tasks
            ]
            with process_marks.outlived():  # jobs outlive their submitter
                jobs = executor.submit_array(calls)
        except (FailedJobError, FailedSubmissionError, RuntimeError, OSError) as error:
            lines = [line for line in str(error).splitlines() if line.strip()] or ["sbatch failed"]
            why = next((line for line in lines if "error:" in line), lines[-1])
            raise UsageError(f"Slurm refuses the jobs: {why.strip()}") from None
        return [str(job.job_id) for job in jobs]

    def parameters(self, batch: Batch) -> dict[str, Any]:
        """The parameters for submitit; options that it lacks go to sbatch as they are."""
        asked, builds = self._options, batch.kind == records.BUILDS
        options = {k: v for k, v in asked.options if not (builds and is_of_gpus(k, v))}
        parameters = {
            "job_name": batch.name,
            "time": batch.minutes,
            "nodes": 1,
            "ntasks_per_node": 1,
            "array_parallelism": asked.parallel,
            "signal_delay_s": min(WARN_S, batch.minutes * 60 // 4),
            "stderr_to_stdout": True,
            # After a node failure or a preemption, Slurm starts it again by itself.
            "additional_parameters": {"ntasks": 1, "requeue": True, **options},
            "partition": (asked.build_partition if builds else None) or asked.partition,
            "account": asked.account,
            "gpus_per_task": 0 if builds else asked.gpus,
        }
        return {name: value for name, value in parameters.items() if value}

    def find(self, batch: Batch) -> Sequence[str] | None:
        """As `Scheduler.find`.

        Raises:
            InfrastructureError: Slurm does not answer, so whether it has the jobs is unknown.
        """
        queued = self._squeue()
        if queued is None:
            raise InfrastructureError("Slurm does not answer (squeue); try again later")
        # Slurm may have forgotten some; any of them has the array's number.
        jobs = [job for job, state in queued.items() if state.name == batch.name]
        jobs += [s.job for task in batch.tasks for s in records.starts(batch, task.name)]
        if not jobs:
            return None
        array, size = jobs[0].partition("_")[0], len(batch.tasks)
        return [array] if size == 1 else [f"{array}_{place}" for place in range(size)]

    def cancel(self, job: str) -> None:
        self._ask(f"scancel {job}")

    def look(self, batches: Sequence[Batch]) -> dict[str, JobState] | None:
        queued = self._squeue()
        if queued is None:
            return None
        names = {job: batch.name for batch in batches for job in batch.jobs or ()}
        known = {**self._sacct(sorted(names.keys() - queued.keys())), **queued}
        # By name, too: a number may be of another cluster, or reused.
        return {job: s for job, s in known.items() if names.get(job) == s.name}

    def _squeue(self) -> dict[str, JobState] | None:
        text = self._ask(
            f"squeue --noheader --array --states=all --user={os.getuid()} --format={states.SQUEUE}"
        )
        return None if text is None else states.parse_squeue(text)

    def _sacct(self, jobs: Sequence[str]) -> dict[str, JobState]:
        if not jobs or not self._accounting:
            return {}
        text = self._ask(
            "sacct --noheader --allocations --parsable2 --format=JobID,State,NodeList,JobName "
            f"--jobs={','.join(states.arrays(jobs))}"
        )
        self._accounting = text is not None
        return states.parse_sacct(text or "")

    def _ask(self, words: str) -> str | None:
        try:
            done = self._run(words.split(), timeout=ASK_S)
        except FileNotFoundError:
            return None
        return done.output if done.ok else None


class LocalScheduler(Scheduler):
    """This machine: `parallel` processes at a time; builds, which use all cores, one by one. They
    end with their submitter, however that ends."""

    name = LOCAL
    outlives = False
    grace = 0.0

    def __init__(self, options: JobOptions, run: Runner) -> None:
        self._run = run
        self._pools = {
            records.CELLS: ThreadPoolExecutor(options.parallel),
            records.BUILDS: ThreadPoolExecutor(1),
        }
        self._futures: dict[str, Future[None]] = {}

    def submit(self, batch: Batch) -> Sequence[str]:
        (batch.folder / "jobs").mkdir()
        first = len(self._futures) + 1
        jobs = [str(number) for number in range(first, first + len(batch.tasks))]
        for job, task in zip(jobs, batch.tasks, strict=True):
            self._futures[job] = self._pools[batch.kind].submit(self._work, batch, task.name)
        return jobs

    def _work(self, batch: Batch, name: str) -> None:
        self._run(
            process_tree.argv(sys.executable, "-u", "-m", worker.__name__, batch.folder, name),
            timeout=batch.minutes * 60 + 2 * worker.GRACE_S,
            log=batch.folder / "jobs" / f"{name}.log",
        )

    def look(self, batches: Sequence[Batch]) -> dict[str, JobState] | None:
        """As `Scheduler.look`.

        Raises:
            OSError: a job could not be started.
        """
        for future in self._futures.values():
            if future.done():
                future.result()
        return {
            job: JobState(state="RUNNING" if future.running() else "PENDING")
            for job, future in self._futures.items()
            if not future.done()
        }

    def close(self) -> None:
        """End all running jobs, and wait for them."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        deadline = 0.0
        while not all(future.done() for future in self._futures.values()):
            if not deadline:
                processes.end_all(signal.SIGTERM)
                deadline = time.monotonic() + END_S
            elif time.monotonic() > deadline:
                processes.end_all()  # repeatedly: a thread may be about to start one
            time.sleep(0.05)


def of(options: JobOptions, run: Runner) -> Scheduler:
    """The scheduler of some options.

    Raises:
        UsageError: submitit is not installed.
    """
    return (LocalScheduler if options.scheduler == LOCAL else SlurmScheduler)(options, run)
