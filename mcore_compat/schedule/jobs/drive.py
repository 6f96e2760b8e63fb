"""Submits tasks, watches their jobs, retries those that were killed; can itself be killed and
started again.

All its state is on disk (`records`): a second start finds what is queued, running or done, and does
not submit it again.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from mcore_compat.base.errors import CompatError
from mcore_compat.schedule.jobs import records
from mcore_compat.schedule.jobs.records import Batch, Task
from mcore_compat.schedule.jobs.schedulers import Scheduler
from mcore_compat.schedule.jobs.states import LIVE, Fate, JobState, judge

SAY_S = 30.0
"""Seconds between progress lines, at least; printed only after a change."""

MOST = 1000
"""Tasks of a batch; Slurm's own default limit is one more."""

_USUAL = frozenset({"", "None", "JobArrayTaskLimit", "Priority", "Resources", "BeginTime"})
"""Reasons of a queued job that will start by itself."""


def progress(
    *, done: int, total: int, running: int, seconds: float, outcomes: Mapping[str, int]
) -> str:
    """`12 of 40 done, 2 running, 26 left, about 25 min to go; partial 9, compatible 3`."""
    text = f"{done} of {total} done, {running} running, {total - done - running} left"
    if done:
        text += f", about {max(1, round(seconds / done * (total - done) / 60))} min to go"
    counts = ", ".join(f"{name} {count}" for name, count in sorted(outcomes.items()))
    return f"{text}; {counts}" if counts else text


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """How a task ended. `reason`: its outcome if it is DONE, else why it was given up."""

    fate: Fate
    reason: str


@dataclass(kw_only=True)
class TaskProgress:
    """The state of a task: it has a result, or a job (`batch`), or waits to be submitted."""

    task: Task
    result: TaskResult | None = None
    batch: Batch | None = None
    tries: int = 0
    starts: int = 0
    """Starts of its job that were reported."""

    state: JobState | None = None
    """The last known state of its job."""

    ran: bool = False
    """Whether its job was seen running since it was queued."""

    ended_at: float | None = None

    @property
    def job(self) -> str:
        assert self.batch is not None
        return self.batch.job_of(self.task.name)

    def submitted(self, batch: Batch) -> None:
        """Note that it has a new job."""
        self.batch, self.tries = batch, self.tries + 1
        self.starts, self.state, self.ran, self.ended_at = 0, None, False, None


@dataclass(kw_only=True)
class Driver:
    """Runs the tasks of one kind. `outcome_of`: the outcome of a finished task, in a word."""

    kind: str
    tasks: Sequence[Task]
    scheduler: Scheduler
    among: Path
    minutes: int
    attempts: int
    poll: float
    say: Callable[[str], None]
    outcome_of: Callable[[str], str]

    def __post_init__(self) -> None:
        self._all = [TaskProgress(task=task) for task in self.tasks]
        self._batches: list[Batch] = []

    def run(self) -> Mapping[str, TaskResult]:
        """Run all tasks; how each ended.

        Raises:
            UsageError: the scheduler refuses the jobs.
            InfrastructureError: it does not answer at the start.
            KeyboardInterrupt: jobs that outlive this process are found by the next run.
        """
        began, last_at, last = time.monotonic(), 0.0, ""
        self._adopt()
        while left := [each for each in self._all if each.result is None]:
            if not any(each.batch for each in left):
                self._submit(left[:MOST])
            self._look([each for each in left if each.batch])
            if not any(each.batch for each in left):
                continue
            line = self._progress(time.monotonic() - began)
            if line != last and time.monotonic() > last_at + SAY_S:
                last, last_at = line, time.monotonic()
                self.say(f"  {line}")
            time.sleep(self.poll)
        self._close()
        return {each.task.name: each.result for each in self._all if each.result}

    def _adopt(self) -> None:
        """Adopt jobs of an earlier run that it did not see end."""
        for batch in records.open_batches(self.among, self.scheduler.name):
            if batch.kind != self.kind:
                continue
            if batch.jobs is None:
                jobs = self.scheduler.find(batch)
                if jobs is None:  # its submitter was killed before it submitted
                    records.close(batch)
                    continue
                batch = records.submitted(batch, jobs)
            self._batches.append(batch)
            names = {task.name for task in batch.tasks}
            for each in self._all:
                if each.task.name in names:
                    each.submitted(batch)
        adopted = [each for each in self._all if each.batch]
        if not adopted:
            return
        states = self._ask(self._batches)
        for each in adopted:
            self._take_over(each, states)
        done = sum(each.result is not None for each in self._all)
        live = sum(each.batch is not None for each in self._all)
        self.say(
            f"continuing with jobs submitted before: {done} done, "
            f"{live} queued, running or just ended, {len(self._all) - done - live} to submit"
        )

    def _ask(self, batches: Sequence[Batch]) -> dict[str, JobState]:
        while (states := self.scheduler.look(batches)) is None:
            self.say(f"{self.scheduler.name} does not answer; next try in {self.poll:.0f} s")
            time.sleep(self.poll)
        return states

    def _take_over(self, each: TaskProgress, states: Mapping[str, JobState]) -> None:
        name, batch = each.task.name, each.batch
        assert batch is not None
        fate, _ = judge(states.get(each.job), records.end(batch, name), settled=False)
        if fate is Fate.WAITING:
            each.starts = len(records.starts(batch, name))
            each.ran = each.starts > 0
            return
        each.batch = None
        if fate is Fate.DONE and batch.task(name).inputs == each.task.inputs:
            each.result = TaskResult(fate=fate, reason=self.outcome_of(name))
        elif fate is not Fate.DIED or each.tries >= self.attempts:
            # A person who ended the job and starts the run again wants it retried.
            each.tries = 0

    def _submit(self, waiting: Sequence[TaskProgress]) -> None:
        tasks = [each.task for each in waiting]
        to = self.scheduler
        batch = records.new(self.kind, to.name, tasks, self.minutes, self.among, open=to.outlives)
        with _undisturbed():
            try:
                batch = records.submitted(batch, to.submit(batch))
            except CompatError:
                records.close(batch)
                raise
        assert batch.jobs is not None
        self._batches.append(batch)
        for each in waiting:
            each.submitted(batch)
        what = tasks[0].name if len(tasks) == 1 else f"{len(tasks)} {self.kind}"
        if to.outlives:
            job = batch.jobs[0].partition("_")[0]
            self.say(f"submitted {what} as job {job} of {to.name} ({batch.name})")
        else:
            self.say(f"running {what}; their output is in {batch.folder / 'jobs'}")

    def _look(self, live: Sequence[TaskProgress]) -> None:
        names = {each.batch.name for each in live if each.batch}
        states = self._ask([batch for batch in self._batches if batch.name in names])
        for each in live:
            assert each.batch is not None
            state = states.get(each.job)
            if state is None and each.state and each.state.state not in LIVE:
                state = each.state  # Slurm forgets a job soon after its end
            each.state = state
            self._say_starts(each, each.batch)
            settled = False
            if state is not None and state.state in LIVE:
                each.ended_at = None
            else:
                each.ended_at = each.ended_at or time.monotonic()
                settled = time.monotonic() >= each.ended_at + self.scheduler.grace
            fate, reason = judge(state, records.end(each.batch, each.task.name), settled)
            if fate is not Fate.WAITING:
                if state is not None and state.state == "PENDING":
                    self.scheduler.cancel(
                        each.job
                    )  # else it might run at the same time as its next attempt
                self._settle(each, fate, reason)

    def _say_starts(self, each: TaskProgress, batch: Batch) -> None:
        """Print when the scheduler queues or starts a job again."""
        name = each.task.name
        if each.state:
            pending = each.state.state == "PENDING"
            if pending and each.ran:
                self.say(f"{name}: job {each.job} was queued again ({each.state.reason})")
            each.ran = not pending
        starts = records.starts(batch, name)
        if len(starts) > max(1, each.starts):
            self.say(f"{name}: job {starts[-1].job} was started again, on {starts[-1].node}")
        each.starts = len(starts)

    def _settle(self, each: TaskProgress, fate: Fate, reason: str) -> None:
        name, job = each.task.name, each.job
        each.batch = None
        if fate is Fate.DONE:
            reason = self.outcome_of(name)
            self.say(f"{name}: {reason} (job {job})")
        elif fate is Fate.DIED and each.tries < self.attempts:
            self.say(
                f"{name}: job {job}: {reason}; attempt {each.tries} of {self.attempts}, will retry"
            )
            return
        else:
            tries = f"given up after {each.tries} of {self.attempts}"
            self.say(f"{name}: job {job}: {reason}; {tries}")
        each.result = TaskResult(fate=fate, reason=reason)

    def _progress(self, seconds: float) -> str:
        live = [each.state for each in self._all if each.batch and each.state]
        results = [each.result for each in self._all if each.result]
        line = progress(
            done=len(results),
            total=len(self._all),
            running=sum(state.state == "RUNNING" for state in live),
            seconds=seconds,
            outcomes=Counter(r.reason for r in results if r.fate is Fate.DONE),
        )
        stuck = Counter(s.reason for s in live if s.state == "PENDING" and s.reason not in _USUAL)
        reasons = ", ".join(f"{reason} ({count})" for reason, count in sorted(stuck.items()))
        return f"{line}; queued, reason of the scheduler: {reasons}" if reasons else line

    def _close(self) -> None:
        """Close the batches without running jobs; another selection may still have jobs."""
        names = {each.task.name for each in self._all}
        others = [b for b in self._batches if {task.name for task in b.tasks} - names]
        states = self._ask(others) if others else {}
        for batch in self._batches:
            live = [states.get(job) for job in batch.jobs or ()] if batch in others else []
            if not any(state and state.state in LIVE for state in live):
                records.close(batch)
        records.prune(self.among)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until after the block: between a submission and its record, they
    would leave jobs without a record."""
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)

    before = {}
    with contextlib.suppress(ValueError):  # not in the main thread, which owns the signals
        before = {n: signal.signal(n, hold) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if held:
            raise KeyboardInterrupt
