"""Jobs of a real Slurm, killed on purpose: minutes; selected by `nox -s slurm`.

Slurm is real; the cells stand in (`slurm_stand_in.py`): short commands that write results as the
pipeline does. `test_slurm_cells.py` has real ones.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs_support import ENDS_S, Run, finish, started
from slurm_accounting import Accounted
from slurm_support import Cluster, wait_for
from support import ROOT

from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.schedule.jobs import records
from mcore_compat.schedule.jobs.records import Batch

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    with Cluster(3, min_job_age=5) as cluster:
        yield cluster
    assert cluster.left() == {}


def forget_jobs(batch: Batch) -> None:
    """Leave the record as a submitter leaves it that dies right after the submission."""
    path = batch.folder / records.BATCH
    path.write_text(json.dumps({**json.loads(path.read_text()), "jobs": None}))


def test_all_results_are_complete_in_the_end_whatever_died(slurm: Cluster, tmp_path: Path) -> None:
    run = Run(tmp_path, slurm.environ)
    endless = ["killed", "node", "late"]
    names = [*endless, *"abcdef"]
    with started(run, names) as first:
        wait_for("three cells stored a check", lambda: all(run.stored(n) for n in endless))
        for name in endless:  # the check that is done has failed, and says nothing yet
            found = run.stored(name)
            assert found is not None
            assert [check.outcome.value for check in found.checks] == ["broken"]
            assert found.outcome is CellOutcome.ERROR
        first.kill()
        first.wait()
    forget_jobs(run.batches()[0])
    array = slurm.ask("squeue", "-h", "-o", "%A").split()[0]
    slurm.take_down(f"{array}_1")
    os.kill(slurm.worker_of(f"{array}_0"), signal.SIGKILL)

    with started(run, names) as second:
        again = f"node: job {array}_1 was"
        wait_for("it went on", lambda: "continuing with jobs submitted before" in run.said)
        assert second.wait(ENDS_S) == 0, run.said

    for name in names:
        stored = run.stored(name)
        assert stored is not None
        assert stored.complete
        assert stored.outcome is CellOutcome.COMPATIBLE
    assert {name: run.ran(name) for name in names} == {
        name: 2 if name in endless else 1 for name in names
    }
    submitted = Counter(task.name for batch in run.batches() for task in batch.tasks)
    assert submitted == {name: 2 if name in ("killed", "late") else 1 for name in names}
    assert not any(batch.open for batch in run.batches())
    said = run.said
    assert f"killed: job {array}_0: its job was killed before it recorded how it ended" in said
    assert again in said
    assert f"late: job {array}_2: the job's time limit" in said
    assert said.count("will retry") == 2
    assert "incompatible" not in said


def died_and_forgotten(slurm: Cluster, run: Run) -> str:
    """What is said of a job that died, was forgotten by Slurm, and is then asked for."""
    names = ["killed", "a"]
    with started(run, names):
        wait_for("both have run", lambda: run.ran("killed") == 1 and run.stored("a"))
        wait_for("a is done", lambda: "a: compatible" in run.said)
    job = run.job_of("killed")
    os.kill(slurm.worker_of(job), signal.SIGKILL)
    every = ("squeue", "--noheader", "--array", "--states=all")
    wait_for("it is forgotten", lambda: job not in slurm.ask(*every), 180)
    finish(run, names)
    assert (run.ran("killed"), run.ran("a")) == (2, 1)
    return next(line for line in run.said.splitlines() if line.startswith(f"killed: job {job}: "))


def test_a_job_that_slurm_has_forgotten_is_noticed(slurm: Cluster, tmp_path: Path) -> None:
    said = died_and_forgotten(slurm, Run(tmp_path, slurm.environ))
    assert "its job was killed before it recorded how it ended (state: gone)" in said


def test_what_slurm_has_forgotten_is_known_to_its_accounting(tmp_path: Path) -> None:
    with Accounted(2, min_job_age=5) as slurm:
        said = died_and_forgotten(slurm, Run(tmp_path, slurm.environ))
    assert "its job was killed before it recorded how it ended (state: FAILED)" in said


def test_a_drained_node_ends_its_job_and_gets_no_other(slurm: Cluster, tmp_path: Path) -> None:
    run = Run(tmp_path, slurm.environ)
    names = ["a", "b", "c", "d", "e", "f"]
    with started(run, names) as process:
        wait_for("a job runs", lambda: run.ran("a") == 1)
        drained = slurm.node_of(run.job_of("a"))
        slurm.tell("scontrol", "update", f"nodename={drained}", "state=drain", "reason=test")
        assert process.wait(ENDS_S) == 0, run.said
    nodes = {name: records.starts(run.batches()[0], name)[0].node for name in names}
    assert [name for name, node in nodes.items() if node == drained] == ["a"]
    assert {name: run.ran(name) for name in names} == dict.fromkeys(names, 1)
    slurm.tell("scontrol", "update", f"nodename={drained}", "state=resume")


def test_what_a_person_cancels_is_not_submitted_again(slurm: Cluster, tmp_path: Path) -> None:
    run = Run(tmp_path, slurm.environ)
    with started(run, ["hung", "a"]) as process:
        wait_for("it runs", lambda: run.stored("hung"))
        slurm.tell("scancel", run.job_of("hung"))
        assert process.wait(ENDS_S) == 0, run.said
    assert "its job was cancelled; given up after 1 of 3" in run.said
    assert run.ran("hung") == 1
    finish(run, ["hung", "a"])  # started again by a person, who wants it tried again
    assert run.ran("hung") == 2


def test_a_partition_that_does_not_exist_is_one_line(slurm: Cluster, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "mcore_compat.cli", "matrix", "--executor", "slurm"]
    argv += ["--tag", "newest", "--force", "--partition", "nowhere"]
    environ = {**slurm.environ, "MCORE_COMPAT_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        argv, env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2
    assert last.startswith("mcore-compat: Slurm refuses the jobs: ")
    assert "invalid partition specified: nowhere" in last


def test_a_time_limit_on_this_machine_alone(tmp_path: Path) -> None:
    run = Run(tmp_path, dict(os.environ), "local")
    began = time.monotonic()
    finish(run, ["late", "a"])
    assert time.monotonic() - began > 40
    assert "late: job" in run.said
    assert "the job's time limit of 1 min was reached; attempt 1 of 3, will retry" in run.said
    assert (run.ran("late"), run.ran("a")) == (2, 1)
