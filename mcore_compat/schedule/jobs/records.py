"""The files of a submission: a folder with `batch.json`, and the files of each task's job.

Plain files on the file system that the nodes share; a submitter that was killed reads them again at
its next start. `TASK.starts` has a line for each start. The job writes `TASK.ended.json` last: if
it is missing, the job was killed.
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
from mcore_compat.results.result import now

BATCH = "batch.json"
CELLS, BUILDS = "cells", "builds"

VERDICT, REFUSED, FAILED, STOPPED = "verdict", "refused", "failed", "stopped"
"""How a task's command ended: with a verdict; its input is invalid; an infrastructure error; a
person ended it."""

KEPT = 200
"""The number of folders of ended batches that are kept, for their logs."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one job does: a command, named after its cell or wheel. `inputs`: what its result is
    valid for; one of other inputs does not count."""

    name: str
    argv: tuple[str, ...]
    inputs: str = ""


@dataclass(frozen=True, kw_only=True)
class JobStart:
    """One start of a job; `restarts`: the restarts by the scheduler itself."""

    job: str
    restarts: int
    node: str
    at: str


@dataclass(frozen=True, kw_only=True)
class JobEnd:
    """How a task's command ended, as written by its job."""

    how: str
    reason: str
    job: str
    restarts: int
    seconds: float


@dataclass(frozen=True)
class Batch:
    """Tasks that were submitted together; `jobs`: their jobs in order, None while unknown. `name`:
    that of its folder and of its jobs."""

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
        """The task of that name; KeyError if there is none."""
        return {task.name: task for task in self.tasks}[name]

    def job_of(self, name: str) -> str:
        """The job of a task."""
        assert self.jobs is not None
        return self.jobs[[task.name for task in self.tasks].index(name)]


def folder() -> Path:
    """The folder of all batches."""
    return files.home() / "submitted"


def new(
    kind: str, scheduler: str, tasks: Sequence[Task], minutes: int, among: Path, open: bool = True
) -> Batch:
    """A batch that is on disk and not submitted yet; `open`: a later run must look at it."""
    used = [_number(path) for path in among.glob("mcore-compat-*")]
    # A unique name: the scheduler may also have jobs of another folder.
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
    """All batches, oldest first."""
    batches = []
    for path in among.glob(f"mcore-compat-*/{BATCH}"):
        with contextlib.suppress(FileNotFoundError):  # another run just removed it
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
    """Mark a batch as closed: later runs ignore it."""
    write(replace(batch, open=False))


def prune(among: Path, kept: int = KEPT) -> None:
    """Remove all but the newest of the closed ones."""
    for batch in [batch for batch in _batches(among) if not batch.open][:-kept]:
        shutil.rmtree(batch.folder, ignore_errors=True)  # another run may remove it, too


def note_start(batch: Batch, name: str, start: JobStart) -> None:
    """Append a start: one write, so that two never mix."""
    with (batch.folder / f"{name}.starts").open("ab", buffering=0) as out:
        out.write((json.dumps(asdict(start), sort_keys=True) + "\n").encode())


def starts(batch: Batch, name: str) -> tuple[JobStart, ...]:
    """All starts of a task's job; an incomplete last line is left for the next time."""
    path = batch.folder / f"{name}.starts"
    whole, _, _ = path.read_bytes().rpartition(b"\n") if path.exists() else (b"", b"", b"")
    return tuple(msgspec.json.Decoder(JobStart).decode_lines(whole))


def note_end(batch: Batch, name: str, ended: JobEnd) -> None:
    """Record how a task's command ended. A verdict stays: an earlier start of the same job, on a
    failed node, may still write after it."""
    before = end(batch, name)
    if before is None or before.how != VERDICT:
        files.write_text(batch.folder / f"{name}.ended.json", files.dump_json(asdict(ended)))


def end(batch: Batch, name: str) -> JobEnd | None:
    """How a task's command ended; None while it runs, or if its job was killed."""
    path = batch.folder / f"{name}.ended.json"
    return msgspec.json.decode(path.read_bytes(), type=JobEnd) if path.exists() else None
