"""Submitters of stand-in cells (`slurm_stand_in.py`) that tests kill, and what they leave."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from slurm_stand_in import cell_of
from support import ROOT

from mcore_compat.results import store
from mcore_compat.results.result import Result, result_path
from mcore_compat.schedule.jobs import records
from mcore_compat.schedule.jobs.records import Batch

STAND_IN = ROOT / "tests" / "slurm_stand_in.py"
ENDS_S = 240.0


class Run:
    """Processes that submit the same stand-in cells, one after the other, and what they leave."""

    def __init__(self, folder: Path, environ: dict[str, str], scheduler: str = "slurm") -> None:
        self.folder = folder
        self.scheduler = scheduler
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        self._environ = {**environ, "PYTHONPATH": paths}
        self._log = folder / "submitter.log"
        self._log.touch()

    def start(self, names: Sequence[str], **more: Any) -> subprocess.Popen[bytes]:
        argv = [sys.executable, str(STAND_IN), "submit", self.scheduler, str(self.folder), *names]
        with self._log.open("ab") as out:
            return subprocess.Popen(
                argv, env=self._environ, stdout=out, stderr=out, start_new_session=True, **more
            )

    @property
    def said(self) -> str:
        return self._log.read_text()

    def ran(self, name: str) -> int:
        """How often a cell was started."""
        path = self.folder / f"{name}.ran"
        return path.read_text().count("\n") if path.exists() else 0

    def stored(self, name: str) -> Result | None:
        path = result_path(cell_of(name).name, "host", self.folder / "results")
        return store.load(path) if path.exists() else None

    def batches(self) -> list[Batch]:
        found = [records.read(p.parent) for p in (self.folder / "submitted").glob("*/batch.json")]
        return sorted(found, key=lambda batch: int(batch.name.split("-")[2]))

    def job_of(self, name: str) -> str:
        """The first job of a cell."""
        return next(b.job_of(name) for b in self.batches() if name in {t.name for t in b.tasks})


@contextlib.contextmanager
def started(run: Run, names: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A submitter that is not left behind."""
    process = run.start(names)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def finish(run: Run, names: Sequence[str]) -> None:
    """Start the submitter once more and let it come to its end."""
    with started(run, names) as process:
        assert process.wait(ENDS_S) == 0, run.said
