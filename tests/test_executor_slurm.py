"""Slurm as a scheduler: how it is asked, and what its answers are taken for.

Its answers are written by hand in squeue's and sacct's formats; `tests/real/test_slurm.py` has a
real one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from mcore_compat.base import process_marks, processes
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.schedule.jobs import records, states
from mcore_compat.schedule.jobs.job_options import JobOptions
from mcore_compat.schedule.jobs.records import Batch, JobStart, Task
from mcore_compat.schedule.jobs.schedulers import SlurmScheduler
from mcore_compat.schedule.jobs.states import JobState

SQUEUE = """\
12_0|RUNNING|n1|mcore-compat-1-abc|None
12_1|PENDING||mcore-compat-1-abc|JobArrayTaskLimit
9|NODE_FAIL|n2|other|NodeDown
"""

SACCT = """\
12_0|COMPLETED|n1|mcore-compat-1-abc
12_[3-4]|PENDING|None assigned|mcore-compat-1-abc
9|CANCELLED by 1000|n2|other
"""


def test_what_squeue_and_sacct_say_is_read() -> None:
    found = states.parse_squeue(SQUEUE)
    assert found["12_0"] == JobState(
        state="RUNNING", node="n1", name="mcore-compat-1-abc", reason="None"
    )
    assert found["9"].state == "NODE_FAIL"
    told = states.parse_sacct(SACCT)
    assert told["9"].name == "other"
    assert {job: seen.state for job, seen in told.items()} == {
        "12_0": "COMPLETED",
        "9": "CANCELLED",
    }
    assert states.arrays(["12_0", "12_10", "9"]) == ("9", "12")


Answers = dict[str, tuple[int, str]]


def answering(answers: Answers, asked: list[list[str]]) -> Callable[..., processes.Completed]:
    """Stands in for squeue and sacct."""

    def run(argv: Sequence[str | os.PathLike[str]], **_: object) -> processes.Completed:
        words = [str(word) for word in argv]
        asked.append(words)
        code, output = answers[words[0]]
        return processes.Completed(argv=tuple(words), returncode=code, output=output, seconds=0)

    return run


def slurm(
    answers: Answers, asked: list[list[str]] | None = None, **options: object
) -> SlurmScheduler:
    chosen = JobOptions(scheduler="slurm", **options)  # type: ignore[arg-type]
    return SlurmScheduler(chosen, answering(answers, asked if asked is not None else []))


def batch_of(folder: Path, jobs: Sequence[str], kind: str = records.CELLS) -> Batch:
    tasks = [Task(name=f"t{place}", argv=("true",)) for place in range(len(jobs))]
    return records.submitted(records.new(kind, "slurm", tasks, 8, folder), jobs)


def test_what_squeue_forgot_is_asked_of_sacct(tmp_path: Path) -> None:
    asked: list[list[str]] = []
    batch = batch_of(tmp_path, ["12_0", "12_1", "12_2"])
    said = f"12_2|TIMEOUT|n3|{batch.name}\n"
    there = slurm(
        {"squeue": (0, f"12_0|RUNNING|n1|{batch.name}|None\n"), "sacct": (0, said)}, asked
    )
    found = there.look([batch])
    assert found is not None
    assert {job: seen.state for job, seen in found.items()} == {
        "12_0": "RUNNING",
        "12_2": "TIMEOUT",
    }
    assert "--jobs=12" in asked[-1]


def test_a_job_of_another_name_is_not_ours(tmp_path: Path) -> None:
    there = slurm({"squeue": (0, "12_0|RUNNING|n1|theirs|None\n"), "sacct": (1, "")})
    assert there.look([batch_of(tmp_path, ["12_0"])]) == {}


def test_without_accounting_sacct_is_asked_once(tmp_path: Path) -> None:
    asked: list[list[str]] = []
    there = slurm({"squeue": (0, ""), "sacct": (1, "accounting is disabled")}, asked)
    for _ in range(3):
        assert there.look([batch_of(tmp_path, ["12_0"])]) == {}
    assert [words[0] for words in asked].count("sacct") == 1


def test_a_slurm_that_does_not_answer_is_no_dead_job(tmp_path: Path) -> None:
    there = slurm({"squeue": (1, "Unable to contact slurm controller")})
    assert there.look([batch_of(tmp_path, ["12_0"])]) is None
    with pytest.raises(InfrastructureError, match="does not answer"):
        there.find(batch_of(tmp_path, ["12_0"]))


def test_an_array_is_found_by_any_of_its_jobs(tmp_path: Path) -> None:
    batch = batch_of(tmp_path, ["-", "-", "-"])
    there = slurm({"squeue": (0, f"44_2|PENDING||{batch.name}|None\n")})
    assert there.find(batch) == ["44_0", "44_1", "44_2"]
    forgotten = slurm({"squeue": (0, "")})
    assert forgotten.find(batch) is None
    records.note_start(batch, "t1", JobStart(job="44_1", restarts=0, node="n", at=""))
    assert forgotten.find(batch) == ["44_0", "44_1", "44_2"]


def test_builds_ask_for_no_gpu(tmp_path: Path) -> None:
    options = (
        *(("gpu-bind", "none"), ("gres", "gpu:1"), ("mem", "8G")),
        *(("mem-per-gpu", "4G"), ("tres-per-task", "gres/gpu:1")),
    )
    there = slurm(
        {}, gpus=1, partition="gpu", build_partition="cpu", account="a", options=options, parallel=4
    )
    cells = there.parameters(batch_of(tmp_path, ["1"]))
    builds = there.parameters(batch_of(tmp_path, ["2"], records.BUILDS))
    assert (cells["partition"], cells["gpus_per_task"]) == ("gpu", 1)
    assert cells["additional_parameters"]["gres"] == "gpu:1"
    assert builds["partition"] == "cpu"
    assert "gpus_per_task" not in builds
    assert builds["additional_parameters"] == {"ntasks": 1, "requeue": True, "mem": "8G"}
    assert (cells["array_parallelism"], cells["time"], cells["account"]) == (4, 8, "a")


def test_a_job_carries_no_mark_of_who_submitted_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would end with the run that its submitter was part of."""
    pytest.importorskip("submitit", reason="it comes with the extra slurm")
    seen: list[dict[str, str]] = []

    class Executor:
        def __init__(self, folder: Path) -> None:
            """As submitit's."""

        def update_parameters(self, **_: object) -> None:
            """As submitit's."""

        def submit_array(self, calls: Sequence[object]) -> list[object]:
            seen.append(dict(os.environ))
            return []

    monkeypatch.setenv(process_marks.VARIABLE, "1.1000.1")
    there = slurm({})
    monkeypatch.setattr(there, "_submitit", SimpleNamespace(SlurmExecutor=Executor))
    there.submit(batch_of(tmp_path, ["12_0"]))
    assert len(seen) == 1
    assert process_marks.VARIABLE not in seen[0]
    assert os.environ[process_marks.VARIABLE] == "1.1000.1"
