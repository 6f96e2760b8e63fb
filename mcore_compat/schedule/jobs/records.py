"""What a submission leaves on disk: a folder with `batch.json`, and what each task's job wrote.

Plain files on the file system that the nodes share; whoever submits reads them again after having
been killed. `TASK.starts` has a line for each start, `TASK.ended.json` is written by the job as its
last act: its absence says that the job died hard.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec

from mcore_compat.base import files
from mcore_compat.results.evidence import now

BATCH = "batch.json"
CELLS, BUILDS = "cells", "builds"

VERDICT, REFUSED, FAILED, STOPPED = "verdict", "refused", "failed", "stopped"
"""How a task's command ended: it did what it is for; its input is wrong; its surroundings failed;
a person ended it."""

KEPT = 200
"""So many folders of batches that have ended are kept, for their logs."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one job does: a command, named after its cell or wheel. `inputs` is what its answer
    holds for: an earlier one of other inputs is none."""

    name: str
    argv: tuple[str, ...]
    inputs: str = ""


@dataclass(frozen=True, kw_only=True)
class JobStart:
    """One start of a job; `restarts` counts what the scheduler did by itself."""

    job: str
    restarts: int
    node: str
    at: str


@dataclass(frozen=True, kw_only=True)
class JobEnd:
    """How a task's command ended, as its job wrote it down."""

    how: str
    reason: str
    job: str
    restarts: int
    seconds: float


@dataclass(frozen=True)
class Batch:
    """Tasks that were submitted together; `jobs` are their jobs in order, None while that is not
    known. `name` is that of its folder and of its jobs."""

    folder: Path
    kind: str
    scheduler: str
    tasks: tuple[Task, ...]
    minutes: int
    taken: str
    jobs: tuple[str, ...] | None = None
    open: bool = True

    @property
    def name(self) -> str:
        return self.folder.name

    def task(self, name: str) -> Task:
        """The task of that name; KeyError where there is none."""
        return {task.name: task for task in self.tasks}[name]

    def job_of(self, name: str) -> str:
        """The job of a task."""
        assert self.jobs is not None
        return self.jobs[[task.name for task in self.tasks].index(name)]


def folder() -> Path:
    """Where all of it lies."""
    return files.home() / "submitted"


def new(
    kind: str, scheduler: str, tasks: Sequence[Task], minutes: int, among: Path, open: bool = True
) -> Batch:
    """A batch that is on disk and not submitted yet; `open`: a later run has to look at it."""
    used = [_number(path) for path in among.glob("mcore-compat-*")]
    # The scheduler knows its jobs by this name, and may have those of another folder, too.
    place = among / f"mcore-compat-{max(used, default=0) + 1}-{secrets.token_hex(3)}"
    batch = Batch(place, kind, scheduler, tuple(tasks), minutes, taken=now(), open=open)
    write(batch)
    return batch


def write(batch: Batch) -> None:
    """Write `batch.json`."""
    data = {key: value for key, value in asdict(batch).items() if key != "folder"}
    files.write_text(batch.folder / BATCH, files.dump_json(data))


def read(place: Path) -> Batch:
    """The batch of a folder."""
    data = msgspec.json.decode((place / BATCH).read_bytes())
    return msgspec.convert({**data, "folder": place}, Batch)


def _batches(among: Path) -> list[Batch]:
    """All that are there, oldest first."""
    batches = []
    for path in among.glob(f"mcore-compat-*/{BATCH}"):
        with contextlib.suppress(FileNotFoundError):  # another run has just pruned it
            batches.append(read(path.parent))
    return sorted(batches, key=lambda batch: _number(batch.folder))


def open_batches(among: Path, scheduler: str) -> tuple[Batch, ...]:
    """Those that no run has closed, oldest first."""
    return tuple(b for b in _batches(among) if b.open and b.scheduler == scheduler)


def _number(place: Path) -> int:
    return int(place.name.split("-")[2])


def submitted(batch: Batch, jobs: Sequence[str]) -> Batch:
    """The batch with its jobs, written."""
    batch = replace(batch, jobs=tuple(jobs))
    write(batch)
    return batch


def close(batch: Batch) -> None:
    """No later run has to look at it."""
    write(replace(batch, open=False))


def prune(among: Path, kept: int = KEPT) -> None:
    """Remove all but the newest of the closed ones."""
    for batch in [batch for batch in _batches(among) if not batch.open][:-kept]:
        shutil.rmtree(batch.folder, ignore_errors=True)  # by another run, too


def note_start(batch: Batch, name: str, start: JobStart) -> None:
    """Append a start: one write, so that two never mix."""
    with (batch.folder / f"{name}.starts").open("ab", buffering=0) as out:
        out.write((json.dumps(asdict(start), sort_keys=True) + "\n").encode())


def starts(batch: Batch, name: str) -> tuple[JobStart, ...]:
    """All starts of a task's job; one that is being written is read the next time."""
    path = batch.folder / f"{name}.starts"
    whole, _, _ = path.read_bytes().rpartition(b"\n") if path.exists() else (b"", b"", b"")
    return tuple(msgspec.json.Decoder(JobStart).decode_lines(whole))


def note_end(batch: Batch, name: str, ended: JobEnd) -> None:
    """Say how a task's command ended. A verdict stays: what an earlier start of the same job, on a
    node that was given up, says after it counts no more."""
    before = end(batch, name)
    if before is None or before.how != VERDICT:
        files.write_text(batch.folder / f"{name}.ended.json", files.dump_json(asdict(ended)))


def end(batch: Batch, name: str) -> JobEnd | None:
    """How a task's command ended; None while it has not, or where its job died hard."""
    path = batch.folder / f"{name}.ended.json"
    return msgspec.json.decode(path.read_bytes(), type=JobEnd) if path.exists() else None
