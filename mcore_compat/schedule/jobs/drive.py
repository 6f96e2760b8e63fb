"""Submits tasks, watches their jobs, tries again those that died; can be killed and started again.

All it knows is on disk (`records`): a second start finds what is queued, running or done, and
submits none of that again.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from mcore_compat.base.errors import CompatError
from mcore_compat.schedule.jobs import records
from mcore_compat.schedule.jobs.records import Batch, Task
from mcore_compat.schedule.jobs.schedulers import Scheduler
from mcore_compat.schedule.jobs.states import LIVE, Fate, JobState, judge

SAY_S = 30.0
"""So often it is said how far it is, where that changed."""

MOST = 1000
"""Tasks of a batch; Slurm's own default limit is one more."""

_USUAL = frozenset({"", "None", "JobArrayTaskLimit", "Priority", "Resources", "BeginTime"})
"""Why a job waits that will not wait for ever."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is."""

    done: int
    total: int
    running: int
    seconds: float
    outcomes: Mapping[str, int]

    def line(self) -> str:
        """`12 of 40 done, 2 running, 26 left, about 25 min to go; partial 9, compatible 3`."""
        left = self.total - self.done - self.running
        text = f"{self.done} of {self.total} done, {self.running} running, {left} left"
        if self.done:
            rest = self.seconds / self.done * (self.total - self.done)
            text += f", about {max(1, round(rest / 60))} min to go"
        said = ", ".join(f"{name} {count}" for name, count in sorted(self.outcomes.items()))
        return f"{text}; {said}" if said else text


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """What became of a task after so many tries. `reason`: what it came to where it is DONE, else
    why it was given up."""

    fate: Fate
    reason: str
    tries: int


@dataclass(kw_only=True)
class Driver:
    """Runs the tasks of one kind. `outcome_of`: what a task that is done came to, in a word."""

    kind: str
    tasks: Sequence[Task]
    scheduler: Scheduler
    among: Path
    minutes: int
    attempts: int
    poll: float
    say: Callable[[str], None]
    outcome_of: Callable[[str], str]

    _waiting: list[str] = field(default_factory=list, init=False)
    _live: dict[str, Batch] = field(default_factory=dict, init=False)
    _tries: Counter[str] = field(default_factory=Counter, init=False)
    _results: dict[str, TaskResult] = field(default_factory=dict, init=False)
    _batches: list[Batch] = field(default_factory=list, init=False)
    _ended_at: dict[str, float] = field(default_factory=dict, init=False)
    _starts: Counter[str] = field(default_factory=Counter, init=False)
    _seen: dict[str, JobState | None] = field(default_factory=dict, init=False)
    _ran: set[str] = field(default_factory=set, init=False)

    def run(self) -> Mapping[str, TaskResult]:
        """Run all tasks to their ends; what became of each.

        Raises:
            UsageError: the scheduler refuses the jobs.
            InfrastructureError: it does not answer at the start.
            KeyboardInterrupt: jobs go on without this process; the next run finds them.
        """
        started, said_at, said = time.monotonic(), 0.0, ""
        self._adopt()
        while True:
            if self._waiting and not self._live:
                self._submit(self._waiting[:MOST])
            if not self._live:
                break
            self._look()
            if not self._live:
                continue
            line = self._progress(time.monotonic() - started)
            if line != said and time.monotonic() > said_at + SAY_S:
                said, said_at = line, time.monotonic()
                self.say(f"  {line}")
            time.sleep(self.poll)
        self._close()
        return {task.name: self._results[task.name] for task in self.tasks}

    def _adopt(self) -> None:
        """Take over what an earlier run submitted and did not see the end of."""
        for batch in records.open_batches(self.among, self.scheduler.name):
            if batch.kind != self.kind:
                continue
            if batch.jobs is None:
                jobs = self.scheduler.find(batch)
                if jobs is None:  # its submitter died before it submitted
                    records.close(batch)
                    continue
                batch = records.submitted(batch, jobs)
            self._batches.append(batch)
        wanted = {task.name for task in self.tasks}
        latest: dict[str, Batch] = {}
        for batch in self._batches:
            for task in batch.tasks:
                if task.name in wanted:
                    latest[task.name] = batch
                    self._tries[task.name] += 1
        there = self._ask(self._batches) if latest else {}
        for task in self.tasks:
            mine = latest.get(task.name)
            if mine is None:
                self._waiting.append(task.name)
            else:
                self._take_over(task, mine, there)
        if latest:
            self.say(
                f"going on with what was submitted before: {len(self._results)} done, "
                f"{len(self._live)} queued, running or just ended, {len(self._waiting)} to submit"
            )

    def _ask(self, batches: Sequence[Batch]) -> dict[str, JobState]:
        there = self.scheduler.look(batches)
        while there is None:
            self.say(f"{self.scheduler.name} does not answer; asked again in {self.poll:.0f} s")
            time.sleep(self.poll)
            there = self.scheduler.look(batches)
        return there

    def _take_over(self, task: Task, batch: Batch, there: Mapping[str, JobState]) -> None:
        name = task.name
        fate, _ = judge(there.get(batch.job_of(name)), records.end(batch, name), settled=False)
        if fate is Fate.DONE and batch.task(name).inputs != task.inputs:
            self._tries[name] = 0
            self._waiting.append(name)
        elif fate is Fate.DONE:
            word = self.outcome_of(name)
            self._results[name] = TaskResult(fate=fate, reason=word, tries=self._tries[name])
        elif fate is Fate.WAITING:
            self._live[name] = batch
            self._starts[name] = len(records.starts(batch, name))
            if self._starts[name]:
                self._ran.add(name)
        else:
            # Whoever starts the run again wants it tried again, if a person ended it.
            if fate is Fate.GIVEN_UP or self._tries[name] >= self.attempts:
                self._tries[name] = 0
            self._waiting.append(name)

    def _submit(self, names: Sequence[str]) -> None:
        by_name = {task.name: task for task in self.tasks}
        tasks = [by_name[name] for name in names]
        to = self.scheduler
        batch = records.new(self.kind, to.name, tasks, self.minutes, self.among, open=to.outlives)
        with _undisturbed():
            try:
                batch = records.submitted(batch, self.scheduler.submit(batch))
            except CompatError:
                records.close(batch)
                raise
        assert batch.jobs is not None
        self._batches.append(batch)
        self._waiting = self._waiting[len(names) :]
        for name in names:
            self._tries[name] += 1
            self._starts[name] = 0
            self._live[name] = batch
        what = batch.jobs[0].partition("_")[0]
        of = names[0] if len(names) == 1 else f"{len(names)} {self.kind}"
        self.say(f"submitted {of} as job {what} of {self.scheduler.name} ({batch.name})")

    def _look(self) -> None:
        there = self._ask([b for b in self._batches if b in self._live.values()])
        for name, batch in list(self._live.items()):
            job = batch.job_of(name)
            # Slurm forgets a job soon after its end; what it said last still holds.
            seen = self._seen[name] = there.get(job) or self._last(name)
            self._say_starts(name, batch, seen)
            if seen is not None and seen.state in LIVE:
                self._ended_at.pop(name, None)
                settled = False
            else:
                since = self._ended_at.setdefault(name, time.monotonic())
                settled = time.monotonic() >= since + self.scheduler.grace
            fate, reason = judge(seen, records.end(batch, name), settled)
            if fate is not Fate.WAITING:
                if seen is not None and seen.state == "PENDING":
                    self.scheduler.cancel(job)  # or it might run beside its next attempt
                self._settle(name, job, fate, reason)

    def _last(self, name: str) -> JobState | None:
        """What was last seen of a job that had ended then."""
        seen = self._seen.get(name)
        return None if seen is None or seen.state in LIVE else seen

    def _say_starts(self, name: str, batch: Batch, seen: JobState | None) -> None:
        """Say what the scheduler does with a job by itself."""
        if seen and seen.state == "PENDING":
            if name in self._ran:
                self.say(f"{name}: job {batch.job_of(name)} was queued again ({seen.reason})")
            self._ran.discard(name)
        elif seen:
            self._ran.add(name)
        starts = records.starts(batch, name)
        if len(starts) > max(1, self._starts[name]):
            self.say(f"{name}: job {starts[-1].job} was started again, on {starts[-1].node}")
        self._starts[name] = len(starts)

    def _settle(self, name: str, job: str, fate: Fate, reason: str) -> None:
        del self._live[name]
        self._ended_at.pop(name, None)
        self._seen.pop(name, None)
        self._ran.discard(name)
        tries = self._tries[name]
        if fate is Fate.DONE:
            reason = self.outcome_of(name)
            self.say(f"{name}: {reason} (job {job})")
        elif fate is Fate.DIED and tries < self.attempts:
            self.say(
                f"{name}: job {job}: {reason}; attempt {tries} of {self.attempts}, tried again"
            )
            self._waiting.append(name)
            return
        else:
            self.say(f"{name}: job {job}: {reason}; given up after {tries} of {self.attempts}")
        self._results[name] = TaskResult(fate=fate, reason=reason, tries=tries)

    def _progress(self, seconds: float) -> str:
        live = [seen for name in self._live if (seen := self._seen.get(name))]
        done = [result.reason for result in self._results.values() if result.fate is Fate.DONE]
        line = Progress(
            done=len(self._results),
            total=len(self.tasks),
            running=sum(seen.state == "RUNNING" for seen in live),
            seconds=seconds,
            outcomes=Counter(done),
        ).line()
        stuck = Counter(s.reason for s in live if s.state == "PENDING" and s.reason not in _USUAL)
        said = ", ".join(f"{reason} ({count})" for reason, count in sorted(stuck.items()))
        return f"{line}; queued, for the scheduler says: {said}" if said else line

    def _close(self) -> None:
        """Close the batches of which nothing goes on; another selection may still have jobs."""
        others = [b for b in self._batches if {t.name for t in b.tasks} - set(self._results)]
        there = self._ask(others) if others else {}
        for batch in self._batches:
            live = [there.get(job) for job in batch.jobs or ()] if batch in others else []
            if not any(seen and seen.state in LIVE for seen in live):
                records.close(batch)
        records.prune(self.among)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C and SIGTERM take effect after the block: between a submission and its record, they
    would leave jobs that nobody knows."""
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)

    before = {}
    with contextlib.suppress(ValueError):  # not in the main thread: its owner has the signals
        before = {n: signal.signal(n, hold) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if held:
            raise KeyboardInterrupt
