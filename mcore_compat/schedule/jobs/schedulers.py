"""The two schedulers: Slurm, and this machine; both through submitit, which is imported here alone.

submitit asks only sacct how jobs are. Accounting may not be there, and lags: here squeue is asked,
and sacct only for what squeue has forgotten.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from mcore_compat.base.errors import InfrastructureError, UsageError
from mcore_compat.base.processes import Runner
from mcore_compat.run.machine import VISIBLE
from mcore_compat.schedule.jobs import records, states, worker
from mcore_compat.schedule.jobs.flags import Flags, is_of_gpus
from mcore_compat.schedule.jobs.records import Batch
from mcore_compat.schedule.jobs.states import Seen

ASK_S = 60.0
"""What squeue and sacct may take."""

WARN_S = 60
"""So long before its time limit a job is warned."""


MOST = 1000
"""Tasks of an array; Slurm's own default limit is one more."""


class Scheduler(Protocol):
    """What the driver needs of a scheduler."""

    name: str
    grace: float
    """Seconds until what a job wrote is seen here, after the scheduler says that it ended."""

    def room(self, live: int) -> int:
        """How many tasks the next batch may have, where `live` are queued or running."""

    def submit(self, batch: Batch) -> Sequence[str]:
        """Submit a batch; its jobs, in the order of its tasks."""

    def find(self, batch: Batch) -> Sequence[str] | None:
        """The jobs of a batch whose submitter died before it wrote them down; None: none."""

    def cancel(self, job: str) -> None:
        """End a job that is queued; one that is gone is no error."""

    def look(self, batches: Sequence[Batch]) -> dict[str, Seen] | None:
        """By job: what is known; None where the scheduler does not answer."""


def submitit() -> Any:
    """The package.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import submitit
    except ImportError:
        raise UsageError(
            "submitit is not installed; it comes with: pip install 'mcore-compat[slurm]'"
        ) from None
    return submitit


def _calls(batch: Batch) -> list[Callable[[], str]]:
    devices = os.environ.get(VISIBLE)
    return [
        functools.partial(worker.work, str(batch.folder), task.name, devices)
        for task in batch.tasks
    ]


def _warn(minutes: int) -> int:
    return min(WARN_S, minutes * 60 // 4)


class Slurm:
    """Slurm: a batch is an array, which throttles itself."""

    name = "slurm"

    def __init__(self, flags: Flags, run: Runner, grace: float = 20.0) -> None:
        self._submitit = submitit()
        self._flags = flags
        self._run = run
        self.grace = grace
        self._accounting = True

    def room(self, live: int) -> int:
        return MOST if live == 0 else 0

    def submit(self, batch: Batch) -> Sequence[str]:
        """As `Scheduler.submit`.

        Raises:
            UsageError: Slurm refuses; carries what sbatch said.
        """
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            executor = self._submitit.SlurmExecutor(folder=batch.folder / "jobs")
            executor.update_parameters(**self.parameters(batch))
            jobs = executor.submit_array(_calls(batch))
        except (FailedJobError, FailedSubmissionError, RuntimeError, OSError) as error:
            said = [line for line in str(error).splitlines() if line.strip()]
            why = next((line for line in said if "error:" in line), (said or ["sbatch failed"])[-1])
            raise UsageError(f"Slurm does not take the jobs: {why.strip()}") from None
        return [str(job.job_id) for job in jobs]

    def parameters(self, batch: Batch) -> dict[str, Any]:
        """What submitit is told; what it has no word for goes to sbatch as it is."""
        flags = self._flags
        builds = batch.kind == records.BUILDS
        options = dict(flags.options)
        if builds:
            options = {k: v for k, v in options.items() if not is_of_gpus(k, v)}
        found: dict[str, Any] = {
            "job_name": batch.name,
            "time": batch.minutes,
            "nodes": 1,
            "ntasks_per_node": 1,
            "array_parallelism": flags.parallel,
            "signal_delay_s": _warn(batch.minutes),
            "stderr_to_stdout": True,
            # Its node failed, or it was preempted: Slurm starts it again by itself.
            "additional_parameters": {"ntasks": 1, "requeue": True, **options},
        }
        partition = (flags.build_partition if builds else None) or flags.partition
        if partition:
            found["partition"] = partition
        if flags.account:
            found["account"] = flags.account
        if flags.gpus and not builds:
            found["gpus_per_task"] = flags.gpus
        return found

    def find(self, batch: Batch) -> Sequence[str] | None:
        """As `Scheduler.find`.

        Raises:
            InfrastructureError: Slurm does not answer: it may have the jobs or not.
        """
        there = self._squeue()
        if there is None:
            raise InfrastructureError("Slurm does not answer (squeue); try again later")
        # Some may have been forgotten by now; any one of them tells the array's number.
        known = [job for job, seen in there.items() if seen.name == batch.name] or _started(batch)
        if not known:
            return None
        array, size = known[0].partition("_")[0], len(batch.tasks)
        return [array] if size == 1 else [f"{array}_{place}" for place in range(size)]

    def cancel(self, job: str) -> None:
        self._ask("scancel", job)

    def look(self, batches: Sequence[Batch]) -> dict[str, Seen] | None:
        there = self._squeue()
        if there is None:
            return None
        names = {job: batch.name for batch in batches for job in batch.jobs or ()}
        told = {**self._sacct(sorted(names.keys() - there.keys())), **there}
        # By name, too: a number may be another cluster's, or come around again.
        return {
            job: told[job] for job, name in names.items() if job in told and told[job].name == name
        }

    def _squeue(self) -> dict[str, Seen] | None:
        done = self._ask(
            "squeue",
            "--noheader",
            "--array",
            "--states=all",
            f"--user={os.getuid()}",
            f"--format={states.SQUEUE}",
        )
        return None if done is None else states.parse_squeue(done)

    def _sacct(self, jobs: Sequence[str]) -> dict[str, Seen]:
        if not jobs or not self._accounting:
            return {}
        arrays = ",".join(states.arrays(jobs))
        said = self._ask(
            "sacct",
            "--noheader",
            "--allocations",
            "--parsable2",
            "--format=JobID,State,NodeList,JobName",
            f"--jobs={arrays}",
        )
        if said is None:
            self._accounting = False
            return {}
        return states.parse_sacct(said)

    def _ask(self, *argv: str) -> str | None:
        try:
            done = self._run(argv, timeout=ASK_S)
        except FileNotFoundError:
            return None
        return done.output if done.ok else None


class Local:
    """This machine: a batch is one job, so many at a time as there are to be."""

    name = "local"
    grace = 2.0

    def __init__(self, flags: Flags) -> None:
        self._submitit = submitit()
        self._flags = flags
        self._jobs: list[Any] = []  # kept: an ended child is asked for its exit status

    def room(self, live: int) -> int:
        return 1 if live < self._flags.parallel else 0

    def submit(self, batch: Batch) -> Sequence[str]:
        executor = self._submitit.LocalExecutor(folder=batch.folder / "jobs")
        executor.update_parameters(
            timeout_min=batch.minutes, signal_delay_s=_warn(batch.minutes), stderr_to_stdout=True
        )
        jobs = [executor.submit(call) for call in _calls(batch)]
        self._jobs += jobs
        return [str(job.job_id) for job in jobs]

    def find(self, batch: Batch) -> Sequence[str] | None:
        alive = [
            path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if _is(path, batch)
        ]
        return alive[:1] or _started(batch) or None

    def cancel(self, job: str) -> None:
        """Nothing is ever queued here."""

    def look(self, batches: Sequence[Batch]) -> dict[str, Seen] | None:
        self._jobs = [job for job in self._jobs if not job.done()]
        return {
            job: Seen(state="RUNNING")
            for batch in batches
            for job in batch.jobs or ()
            if _is(Path("/proc", job, "cmdline"), batch)
        }


def _is(path: Path, batch: Batch) -> bool:
    """Whether a process, told by its command line, runs the batch."""
    with contextlib.suppress(OSError):
        words = path.read_bytes().split(b"\0")
        return b"submitit.local._local" in words and os.fsencode(batch.folder / "jobs") in words
    return False


def _started(batch: Batch) -> list[str]:
    """Those jobs of a batch that have started, as they wrote themselves down."""
    return [start.job for task in batch.tasks for start in records.starts(batch, task.name)[:1]]


def of(flags: Flags, run: Runner) -> Scheduler:
    """The scheduler that was asked for.

    Raises:
        UsageError: submitit is not installed.
    """
    return Slurm(flags, run) if flags.scheduler == "slurm" else Local(flags)
