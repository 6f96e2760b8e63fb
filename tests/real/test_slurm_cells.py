"""Real cells as jobs of a real Slurm, one worker killed, one node down, one job out of time, and
the submitter killed: a quarter of an hour; by hand, `nox -s slurm -- -m "slurm and real"`.

The cells' environments should be there already. They run in a workspace of their own, with the
locks of the checkout; `MCORE_COMPAT_SLURM_LOG` names a file that gets what the submitter said.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from slurm_support import Cluster, wait_for
from support import ROOT

from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.core.workspace import Workspace
from mcore_compat.results import store
from mcore_compat.results.result import result_path
from mcore_compat.schedule.jobs import records
from mcore_compat.schedule.jobs.records import Batch

OLDER = ("0.27", "0.29", "0.31", "0.33", "0.35", "0.37")
SERIES = (*OLDER, "0.39", "0.40", "0.41", "0.42", "0.43", "0.44")
ENDS_S = 3600.0

pytestmark = [pytest.mark.real, pytest.mark.slurm]


@pytest.fixture
def cells() -> tuple[str, ...]:
    """All twelve, or the first few: three at least, one for each way to die."""
    count = int(os.environ.get("MCORE_COMPAT_SLURM_CELLS", str(len(SERIES))))
    return tuple(f"compat-0.15-modelopt{series}" for series in SERIES[: max(3, count)])


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """The matrix and its locks, without any result."""
    made = Workspace(tmp_path / "workspace")
    shutil.copytree(Workspace(ROOT).constraints, made.constraints)
    return made


class Submitter:
    """`mcore-compat matrix --executor slurm`, started as often as it is killed."""

    def __init__(
        self, cells: tuple[str, ...], slurm: Cluster, workspace: Workspace, log: Path
    ) -> None:
        first, last = (SERIES[0], cells[-1].rpartition("modelopt")[2])
        self._argv = [sys.executable, "-u", "-m", "mcore_compat.cli", "matrix", "--force"]
        self._argv += ["--workspace", str(workspace.root)]
        self._argv += ["--mcore", "==0.15.*", "--tag", "stack-default"]
        self._argv += ["--modelopt", f">={first},<={last}.99"]
        self._argv += ["--executor", "slurm", "--partition", "main", "--time", "10"]
        self._argv += ["--array-parallelism", "2", "--poll", "2"]
        self._environ = {**slurm.environ, "PYTHONPATH": str(ROOT)}
        self._log = log

    def start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as out:
            return subprocess.Popen(
                self._argv,
                cwd=ROOT,
                env=self._environ,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self._log.read_text()


def batches(since: float) -> list[Batch]:
    """What was submitted after `since`."""
    found = records.folder().glob(f"mcore-compat-*/{records.BATCH}")
    new = [records.read(path.parent) for path in found if path.parent.stat().st_ctime > since]
    return [batch for batch in new if batch.kind == records.CELLS]


def is_running(batch: Batch, name: str, workspace: Workspace) -> bool:
    """Whether the suite has stored a check of this start of the cell."""
    path = result_path(name, "host", workspace.results)
    return bool(records.starts(batch, name)) and path.exists()


def test_real_cells_are_complete_in_the_end(
    cells: tuple[str, ...], workspace: Workspace, tmp_path: Path
) -> None:
    began = time.time()
    log = Path(os.environ.get("MCORE_COMPAT_SLURM_LOG", tmp_path / "submitter.log"))
    log.unlink(missing_ok=True)
    killed, node, late, *_ = cells
    with Cluster(2) as slurm:
        submitter = Submitter(cells, slurm, workspace, log)
        process = submitter.start()
        try:
            wait_for("submitted", lambda: "submitted" in submitter.said)
            (batch,) = batches(began)
            jobs = {name: batch.job_of(name) for name in cells}

            wait_for(
                f"{killed} stored a check", lambda: is_running(batch, killed, workspace), ENDS_S
            )
            os.kill(slurm.worker_of(jobs[killed]), signal.SIGKILL)
            process.kill()
            process.wait()
            process = submitter.start()

            wait_for(f"{node} stored a check", lambda: is_running(batch, node, workspace), ENDS_S)
            slurm.take_down(jobs[node])

            wait_for(f"{late} stored a check", lambda: is_running(batch, late, workspace), ENDS_S)
            # Stopped, it comes to no end before its time limit does.
            os.kill(slurm.worker_of(jobs[late], b"mcore_compat.cli"), signal.SIGSTOP)
            assert process.wait(ENDS_S) in (0, 1), submitter.said
        finally:
            process.kill()
            process.wait()

    for name in cells:
        found = store.load(result_path(name, "host", workspace.results))
        assert found.complete, name
        assert found.outcome not in (CellOutcome.ERROR, CellOutcome.INCOMPATIBLE), name
    submitted = Counter(task.name for one in batches(began) for task in one.tasks)
    assert submitted == {name: 2 if name in (killed, late) else 1 for name in cells}
    assert len(records.starts(batch, node)) == 2
    assert not any(one.open for one in batches(began))
    said = submitter.said
    assert f"{killed}: job {jobs[killed]}: its job was killed" in said
    assert f"{node}: job {jobs[node]} was" in said
    assert f"{late}: job {jobs[late]}: the job's time limit of 10 min was reached" in said
