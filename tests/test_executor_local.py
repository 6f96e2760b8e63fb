"""Jobs on this machine, by submitit itself: killed, found again, none twice. The cells stand in."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from jobs_support import Run, finish, started
from mcore_compat.schedule.jobs.flags import Flags

from mcore_compat.base import processes
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.schedule.jobs import schedulers, worker


def wait_for(is_so: Callable[[], object], limit: float = 60.0) -> None:
    deadline = time.monotonic() + limit
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def workers(folder: Path) -> list[int]:
    """The processes of submitit that wait for a command of a batch below `folder`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"submitit.core._submit" in words and os.fsencode(folder) in words[-2]:
            found.append(int(path.parent.name))
    return found


def test_killed_jobs_and_submitters_end_in_complete_evidence(tmp_path: Path) -> None:
    run = Run(tmp_path, dict(os.environ), "local")
    names = ["killed", "a", "b", "c"]
    with started(run, names):
        wait_for(lambda: run.stored("killed") and run.stored("a"))
    first = run.job_of("killed")
    wait_for(lambda: len(workers(tmp_path)) == 1)  # those that the submitter left have ended
    os.kill(workers(tmp_path)[0], signal.SIGKILL)
    finish(run, names)
    for name in names:
        stored = run.stored(name)
        assert stored is not None
        assert stored.complete
        assert stored.outcome is CellOutcome.COMPATIBLE
    assert {name: run.ran(name) for name in names} == {"killed": 2, "a": 1, "b": 1, "c": 1}
    assert f"killed: job {first}: its job died without a word" in run.said
    assert workers(tmp_path) == []


@pytest.mark.parametrize("devices", [None, "GPU-1"])
def test_a_job_here_has_the_devices_of_its_submitter(
    devices: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as submitit leaves it
    worker.restore(devices)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == devices


def test_so_many_at_a_time() -> None:
    there = schedulers.of(Flags(scheduler="local", parallel=2), processes.run)
    assert [there.room(live) for live in (0, 1, 2)] == [1, 1, 0]
