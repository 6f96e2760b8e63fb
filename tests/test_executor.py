"""Cells as jobs: what a job leaves, what becomes of a task, and what a submitter does then.

The scheduler stands in; `tests/real/test_slurm.py` has a real one.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from support import event, stand_in_cell

from mcore_compat.base import processes
from mcore_compat.base.errors import UsageError
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.core.workspace import Workspace
from mcore_compat.results import store
from mcore_compat.results.result import Result, result_path
from mcore_compat.schedule import matrix_run
from mcore_compat.schedule.jobs import records, schedulers, states, worker
from mcore_compat.schedule.jobs.drive import Driver
from mcore_compat.schedule.jobs.job_options import JobOptions
from mcore_compat.schedule.jobs.records import Batch, JobEnd, JobStart, Task
from mcore_compat.schedule.jobs.states import Fate, JobState

TASKS = tuple(Task(name=name, argv=("true",)) for name in "abc")


def ended(how: str, reason: str = "") -> JobEnd:
    return JobEnd(how=how, reason=reason, job="1", restarts=0, seconds=1.0)


@pytest.mark.parametrize(
    ("state", "last", "settled", "fate", "said"),
    [
        ("RUNNING", None, False, Fate.WAITING, ""),
        ("PENDING", ended(records.FAILED, "an earlier start"), True, Fate.WAITING, ""),
        ("HELD", None, False, Fate.DIED, "could not start its job again"),
        ("RUNNING", ended(records.VERDICT), False, Fate.DONE, ""),
        (None, ended(records.VERDICT), False, Fate.DONE, ""),
        ("COMPLETED", None, False, Fate.WAITING, ""),
        ("COMPLETED", None, True, Fate.DIED, "before it recorded how"),
        ("FAILED", None, True, Fate.DIED, "(state: FAILED)"),
        (None, None, False, Fate.WAITING, ""),
        (None, None, True, Fate.DIED, "(state: gone)"),
        ("FAILED", ended(records.FAILED, "disk full"), False, Fate.DIED, "disk full"),
        ("FAILED", ended(records.REFUSED, "no such cell"), False, Fate.GIVEN_UP, "no such cell"),
        ("TIMEOUT", ended(records.FAILED, "interrupted"), False, Fate.DIED, "time limit"),
        ("NODE_FAIL", None, False, Fate.DIED, "node failed"),
        ("OUT_OF_MEMORY", None, False, Fate.DIED, "memory limit"),
        ("CANCELLED", ended(records.FAILED, "interrupted"), False, Fate.GIVEN_UP, "cancelled"),
    ],
)
def test_what_becomes_of_a_task(
    state: str | None, last: JobEnd | None, settled: bool, fate: Fate, said: str
) -> None:
    seen = None if state is None else JobState(state=state)
    if state == "HELD":
        seen = JobState(state="PENDING", reason="launch failed requeued held")
    found, reason = states.judge(seen, last, settled)
    assert found is fate
    assert said in reason


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    batch = records.new(records.CELLS, "slurm", TASKS, 60, tmp_path)
    assert records.open_batches(tmp_path, "slurm") == (batch,)
    assert records.open_batches(tmp_path, "local") == ()
    batch = records.submitted(batch, ["7_0", "7_1", "7_2"])
    assert records.read(batch.folder) == batch
    assert batch.job_of("b") == "7_1"
    one = JobStart(job="7_0", restarts=0, node="n1", at="2026-01-01T00:00:00Z")
    records.note_start(batch, "a", one)
    records.note_start(batch, "a", dataclasses.replace(one, restarts=1))
    with (batch.folder / "a.starts").open("a") as out:
        out.write('{"job": "7_')  # being written
    assert [start.restarts for start in records.starts(batch, "a")] == [0, 1]
    records.close(batch)
    assert records.open_batches(tmp_path, "slurm") == ()


def test_a_verdict_is_not_replaced_by_what_an_earlier_start_says(tmp_path: Path) -> None:
    batch = records.new(records.CELLS, "slurm", TASKS, 60, tmp_path)
    assert records.end(batch, "a") is None
    records.note_end(batch, "a", ended(records.FAILED, "first"))
    records.note_end(batch, "a", ended(records.VERDICT))
    records.note_end(batch, "a", ended(records.FAILED, "its node was given up"))
    assert records.end(batch, "a") == ended(records.VERDICT)


def test_old_batches_go_and_open_ones_stay(tmp_path: Path) -> None:
    first = records.new(records.CELLS, "slurm", TASKS, 60, tmp_path)
    for _ in range(4):
        records.close(records.new(records.CELLS, "slurm", TASKS, 60, tmp_path))
    records.prune(tmp_path, kept=2)
    left = sorted(path.name.split("-")[2] for path in tmp_path.iterdir())
    assert left == ["1", "4", "5"]
    assert records.open_batches(tmp_path, "slurm") == (first,)


class StandIn:
    """A scheduler that does as it is told: `plan` has, by task, how each of its jobs ends."""

    name = "stand-in"
    outlives = True
    grace = 0.0

    def __init__(self, plan: dict[str, list[str]]) -> None:
        self.plan = plan
        self.submitted: list[list[str]] = []
        self.jobs: dict[str, tuple[Batch, str]] = {}
        self.silent = 0
        self.cancelled: list[str] = []

    def close(self) -> None:
        """Its jobs go on."""

    def submit(self, batch: Batch) -> Sequence[str]:
        self.submitted.append([task.name for task in batch.tasks])
        number = len(self.submitted)
        jobs = [f"{number}_{place}" for place in range(len(batch.tasks))]
        for job, task in zip(jobs, batch.tasks, strict=True):
            self.jobs[job] = batch, task.name
        return jobs

    def find(self, batch: Batch) -> Sequence[str] | None:
        jobs = [job for job, (of, _) in self.jobs.items() if of.name == batch.name]
        return jobs or None

    def cancel(self, job: str) -> None:
        self.cancelled.append(job)

    def look(self, batches: Sequence[Batch]) -> dict[str, JobState] | None:
        if self.silent:
            self.silent -= 1
            return None
        return {job: self._state(job) for batch in batches for job in batch.jobs or ()}

    def _state(self, job: str) -> JobState:
        batch, name = self.jobs[job]
        tries = sum(name in names for names in self.submitted[: int(job.split("_")[0])])
        how = self.plan.get(name, ["verdict"])[tries - 1]
        if how == "endless":
            return JobState(state="RUNNING")
        if how == "held":
            return JobState(state="PENDING", reason="launch failed requeued held")
        if how in ("verdict", "refused"):
            records.note_end(batch, name, ended(how, "told so"))
            return JobState(state="COMPLETED")
        return JobState(state=how)


def driver(there: StandIn, folder: Path, said: list[str] | None = None, inputs: str = "") -> Driver:
    return Driver(
        kind=records.CELLS,
        tasks=[dataclasses.replace(task, inputs=inputs) for task in TASKS],
        scheduler=there,
        among=folder,
        minutes=60,
        attempts=3,
        poll=0.01,
        say=said.append if said is not None else lambda line: None,
        outcome_of=lambda name: "partial",
    )


def test_what_died_is_tried_again_and_all_else_is_not(tmp_path: Path) -> None:
    there = StandIn({"a": ["NODE_FAIL", "TIMEOUT", "verdict"], "b": ["refused"]})
    said: list[str] = []
    results = driver(there, tmp_path, said).run()
    assert there.submitted == [["a", "b", "c"], ["a"], ["a"]]
    assert {name: result.fate for name, result in results.items()} == {
        "a": Fate.DONE,
        "b": Fate.GIVEN_UP,
        "c": Fate.DONE,
    }
    assert "a: job 1_0: its node failed; attempt 1 of 3, will retry" in said
    assert "b: job 1_1: told so; given up after 1 of 3" in said
    assert "c: partial (job 1_2)" in said
    assert records.open_batches(tmp_path, there.name) == ()


def test_what_always_dies_is_given_up_with_its_reason(tmp_path: Path) -> None:
    there = StandIn({"a": ["TIMEOUT"] * 3})
    results = driver(there, tmp_path).run()
    assert len(there.submitted) == 3
    assert results["a"].fate is Fate.DIED
    assert results["a"].reason == "the job's time limit was reached"


def test_a_job_that_is_held_for_good_is_cancelled_and_tried_again(tmp_path: Path) -> None:
    there = StandIn({"b": ["held", "verdict"]})
    assert driver(there, tmp_path).run()["b"].fate is Fate.DONE
    assert there.submitted == [["a", "b", "c"], ["b"]]
    assert there.cancelled == ["1_1"]


class KilledError(Exception):
    """Ends a submitter that stands in for one that is killed."""


def killed_after(there: StandIn, folder: Path, looks: int) -> None:
    """A submitter that is gone after so many looks."""
    look = there.look
    left = [looks]

    def dying(batches: Sequence[Batch]) -> dict[str, JobState] | None:
        if not left[0]:
            raise KilledError
        left[0] -= 1
        return look(batches)

    there.look = dying  # type: ignore[method-assign]
    with pytest.raises(KilledError):
        driver(there, folder).run()
    there.look = look  # type: ignore[method-assign]


def test_a_second_submitter_goes_on_and_submits_nothing_twice(tmp_path: Path) -> None:
    there = StandIn({"a": ["endless"], "b": ["NODE_FAIL", "verdict"]})
    killed_after(there, tmp_path, looks=1)
    assert there.submitted == [["a", "b", "c"]]
    there.plan["a"] = ["verdict"]
    said: list[str] = []
    results = driver(there, tmp_path, said).run()
    assert there.submitted == [["a", "b", "c"], ["b"]]
    assert {result.fate for result in results.values()} == {Fate.DONE}
    assert said[0].startswith("continuing with jobs submitted before: 2 done, 0 queued")


def test_an_answer_to_other_inputs_does_not_count(tmp_path: Path) -> None:
    there = StandIn({"a": ["endless"], "b": ["verdict"] * 2, "c": ["verdict"] * 2})
    killed_after(there, tmp_path, looks=1)
    there.plan["a"] = ["verdict"] * 2
    driver(there, tmp_path, inputs="changed").run()
    assert there.submitted == [["a", "b", "c"]] * 2


def test_jobs_that_nobody_wrote_down_are_found_by_their_name(tmp_path: Path) -> None:
    there = StandIn({})
    killed_after(there, tmp_path, looks=0)
    (batch,) = records.open_batches(tmp_path, there.name)
    records.write(dataclasses.replace(batch, jobs=None))
    driver(there, tmp_path).run()
    assert there.submitted == [["a", "b", "c"]]


def test_a_submission_that_never_came_about_is_made(tmp_path: Path) -> None:
    records.new(records.CELLS, "stand-in", TASKS, 60, tmp_path)
    there = StandIn({})
    driver(there, tmp_path).run()
    assert there.submitted == [["a", "b", "c"]]


def test_a_scheduler_that_does_not_answer_is_waited_for(tmp_path: Path) -> None:
    there = StandIn({})
    there.silent = 2
    said: list[str] = []
    results = driver(there, tmp_path, said).run()
    assert {result.fate for result in results.values()} == {Fate.DONE}
    assert said.count("stand-in does not answer; next try in 0 s") == 2


def test_a_refused_submission_leaves_nothing_open(tmp_path: Path) -> None:
    there = StandIn({})

    def refuse(batch: Batch) -> Sequence[str]:
        raise UsageError("no such partition")

    there.submit = refuse  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="no such partition"):
        driver(there, tmp_path).run()
    assert records.open_batches(tmp_path, there.name) == ()


def test_a_missing_submitit_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UsageError, match=r"pip install 'mcore-compat\[slurm\]'"):
        schedulers.of(JobOptions(scheduler="slurm"), processes.run)


@pytest.mark.parametrize(
    ("code", "output", "how", "reason"),
    [
        (0, "", records.VERDICT, ""),
        (1, "partial", records.VERDICT, ""),
        (2, "mcore-compat: no such cell\n", records.REFUSED, "no such cell"),
        (3, "x\nmcore-compat: the disk is full", records.FAILED, "the disk is full"),
        (130, "mcore-compat: interrupted", records.FAILED, "it was interrupted"),
        (-9, "half a line", records.FAILED, "it was killed by SIGKILL"),
        (7, "", records.FAILED, "it ended with exit code 7"),
    ],
)
def test_a_commands_exit_code_decides(code: int, output: str, how: str, reason: str) -> None:
    done = processes.Completed(argv=(), returncode=code, output=output, seconds=0)
    assert worker.judged(done) == (how, reason)


Made = Callable[..., Result]


def test_a_cell_without_a_verdict_is_an_error_with_its_reason(made: Made, tmp_path: Path) -> None:
    cell = stand_in_cell()
    workspace = Workspace(tmp_path)
    store.save(made(event("restore[gpt]", "broken"), end=False), workspace.results)
    matrix_run.note_error(cell, "host", "its node failed", workspace)
    found = store.load(result_path(cell.name, "host", workspace.results))
    assert found.outcome is CellOutcome.ERROR
    assert found.reason is not None
    assert found.reason.message == "its node failed"
    assert [check.check for check in found.checks] == ["restore[gpt]"]  # what was learnt is kept


def test_an_error_takes_no_verdict_away(made: Made, tmp_path: Path) -> None:
    whole = made(event("restore[gpt]"))
    workspace = Workspace(tmp_path)
    path = store.save(whole, workspace.results)
    matrix_run.note_error(stand_in_cell(), "host", "x", workspace)
    assert store.load(path) == whole
