"""Jobs on this machine: killed, tried again, and none left behind. The cells stand in."""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from jobs_support import Run, finish, started

from mcore_compat.base import processes
from mcore_compat.base.processes import Completed
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.schedule.jobs import records, schedulers
from mcore_compat.schedule.jobs.job_options import JobOptions
from mcore_compat.schedule.jobs.records import Task


def wait_for(is_so: Callable[[], object], limit: float = 60.0) -> None:
    deadline = time.monotonic() + limit
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def running(folder: Path, module: str = "") -> list[int]:
    """The processes that have `folder`, or what is below it, and `module` on their command line."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in words and module.encode() in words:
            pids.append(int(path.parent.name))
    return pids


def test_a_job_that_is_killed_is_tried_again_and_the_others_are_not(tmp_path: Path) -> None:
    run = Run(tmp_path, dict(os.environ), "local")
    names = ["killed", "a", "b", "c"]
    with started(run, names) as process:
        wait_for(lambda: run.stored("killed") and len(running(tmp_path, "jobs.worker")) == 1)
        os.kill(running(tmp_path, "jobs.worker")[0], signal.SIGKILL)
        assert process.wait(60) == 0
    for name in names:
        stored = run.stored(name)
        assert stored is not None
        assert stored.complete
        assert stored.outcome is CellOutcome.COMPATIBLE
    assert {name: run.ran(name) for name in names} == {"killed": 2, "a": 1, "b": 1, "c": 1}
    assert "killed: job 1: its job was killed before it recorded" in run.said
    assert running(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "at_sigint"),
    [
        (signal.SIGTERM, signal.SIG_IGN),  # as in a shell's background
        (signal.SIGINT, signal.SIG_DFL),
        (signal.SIGKILL, signal.SIG_IGN),
    ],
)
def test_all_of_it_ends_with_the_submitter_and_the_next_one_runs_it(
    number: signal.Signals, at_sigint: signal.Handlers, tmp_path: Path
) -> None:
    run = Run(tmp_path, dict(os.environ), "local")
    ignore = functools.partial(signal.signal, signal.SIGINT, at_sigint)
    process = run.start(["hung"], preexec_fn=ignore)
    wait_for(lambda: run.stored("hung") and len(running(tmp_path)) == 4)
    process.send_signal(number)
    process.wait(10)
    if number == signal.SIGKILL:  # nobody is there to wait for what it started
        wait_for(lambda: not running(tmp_path), limit=10)
    assert running(tmp_path) == []
    finish(run, ["hung"])
    assert run.ran("hung") == 2


@pytest.mark.parametrize(("kind", "most"), [(records.CELLS, 2), (records.BUILDS, 1)])
def test_so_many_at_a_time_and_builds_one_by_one(kind: str, most: int, tmp_path: Path) -> None:
    at_once: list[int] = []
    live: list[int] = []

    def run(*_: object, **__: object) -> Completed:
        live.append(1)
        at_once.append(len(live))
        time.sleep(0.05)
        live.pop()
        return Completed(argv=(), returncode=0, output="", seconds=0)

    there = schedulers.of(JobOptions(parallel=2), run)
    batch = records.new(kind, "local", [Task(name=n, argv=()) for n in "abcd"], 1, tmp_path)
    jobs = there.submit(batch)
    states = there.look([batch])
    assert states is not None
    assert [states[job].state for job in jobs].count("RUNNING") == most
    wait_for(lambda: there.look([batch]) == {})
    there.close()
    assert max(at_once) == most


def test_a_job_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    there = schedulers.of(JobOptions(), processes.run)
    batch = records.new(records.CELLS, "local", [Task(name="x/y", argv=())], 1, tmp_path)
    there.submit(batch)
    with pytest.raises(FileNotFoundError):
        wait_for(lambda: there.look([batch]) == {})
    there.close()
