"""On the node: runs cells in parallel, each in a separate process, and keeps one archive of their
results up to date.

The kernel signals each process when the parent dies for any reason; the process then ends its
children.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcore_compat.base import processes
from mcore_compat.base.errors import Interrupted
from mcore_compat.offline.node.detached import in_session
from mcore_compat.offline.node.environment import PARTS, NodeRun
from mcore_compat.offline.node.run_script import RESULTS, SUMMARY, write_whole
from mcore_compat.run.runner import EVENTS

PROGRESS_S, ARCHIVE_S = 15.0, 10.0
"""How often to print a line for each cell, and to rewrite the archive."""

ENDS_S = 30.0
"""How long a process may take to end its children."""

LOG_BYTES = 200_000
"""Maximum bytes from the end of each log."""

ARCHIVE_BYTES = 15 << 20
"""Maximum size of an archive, because transfers may be limited: all results, and as much of the
logs as fits."""

ROW_BYTES = 1024
"""Maximum overhead of a file in a tar archive."""

BAD = ("broken", "crashed", "timed-out")

Cell = Callable[[str], int]
"""Runs a cell and returns the exit code."""


@dataclass(kw_only=True)
class RunningCell:
    """A running or ended cell: `code` is None until its process has ended. `started` is on the
    monotonic clock; `began` is the time of day, to distinguish files of earlier runs."""

    name: str
    pid: int
    started: float
    began: float
    seconds: float = 0.0
    code: int | None = None


def run_cells(names: Sequence[str], count: int, run: NodeRun, cell: Cell) -> int:
    """Run cells, `count` at a time; returns their highest exit code."""
    (run.into / "logs").mkdir(parents=True, exist_ok=True)
    waiting, cells = list(names), list[RunningCell]()
    printed = archived = time.monotonic()
    try:
        while waiting or any(c.code is None for c in cells):
            while waiting and sum(c.code is None for c in cells) < count:
                cells.append(_started(waiting.pop(0), run, cell))
            _reap(cells, run)
            now = time.monotonic()
            if now - archived > ARCHIVE_S:
                keep(cells, run)
                archived = time.monotonic()
            if now - printed > PROGRESS_S:
                print("\n".join(line(c, run) for c in cells if c.code is None), flush=True)
                printed = now
            time.sleep(0.1)
    except KeyboardInterrupt:
        _end(cells)
        keep(cells, run)
        return Interrupted.exit_code
    keep(cells, run)
    print(_summary(cells, run), flush=True)
    return max((c.code or 0 for c in cells), default=0)


def _started(name: str, run: NodeRun, cell: Cell) -> RunningCell:
    parent, began = os.getpid(), time.time()

    def call() -> int:
        # The parent passes Ctrl-C on.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        processes.die_with_parent(signal.SIGTERM)
        if os.getppid() != parent:  # the parent died before `die_with_parent` took effect
            raise KeyboardInterrupt
        return cell(name)

    pid = in_session(call, run.into / "logs" / f"{name}.log")
    return RunningCell(name=name, pid=pid, started=time.monotonic(), began=began)


def _reap(cells: Sequence[RunningCell], run: NodeRun) -> None:
    """Record which processes have ended, and print their outcome."""
    for cell in cells:
        if cell.code is None:
            pid, status = os.waitpid(cell.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                cell.code = code if code >= 0 else 128 - code
                cell.seconds = time.monotonic() - cell.started
                print(line(cell, run), flush=True)


def _end(cells: Sequence[RunningCell]) -> None:
    """End all running cells and their children."""
    deadline = time.monotonic() + ENDS_S
    for number in (signal.SIGTERM, signal.SIGKILL):
        running = [cell for cell in cells if cell.code is None]
        for cell in running:
            os.kill(cell.pid, number)
        while any(cell.code is None for cell in running) and time.monotonic() < deadline:
            for cell in running:
                if cell.code is None and os.waitpid(cell.pid, os.WNOHANG)[0]:
                    cell.code = Interrupted.exit_code
            time.sleep(0.05)


def counts(cell: RunningCell, run: NodeRun) -> tuple[Counter[str], int]:
    """The number of ended checks of a cell by outcome, and of all checks so far, in this run."""
    ended: Counter[str] = Counter()
    asked = 0
    for name in (cell.name, *(f"{cell.name}.{part}" for part in PARTS)):
        for raw in _lines(run.into / "logs" / name, cell.began):
            if not raw.endswith(b"\n"):
                continue  # still being written
            event = json.loads(raw)
            if event["event"] == "start":
                asked += len(event["checks"])
            elif event["event"] == "check":
                ended[event["outcome"]] += 1
    return ended, asked


def _lines(logs: Path, began: float) -> Iterator[bytes]:
    """The lines of the suite's events written since `began`."""
    for path in logs.glob(EVENTS):
        with contextlib.suppress(FileNotFoundError):  # a starting suite removes the previous files
            if path.stat().st_mtime >= began:
                yield from path.read_bytes().splitlines(keepends=True)


def line(cell: RunningCell, run: NodeRun) -> str:
    """The progress of a cell, or its outcome, in a line."""
    ended, asked = counts(cell, run)
    bad = sum(ended[outcome] for outcome in BAD)
    seconds = time.monotonic() - cell.started if cell.code is None else cell.seconds
    state = {None: "running", 0: "ended"}.get(cell.code, f"failed with {cell.code}")
    log = ""
    with contextlib.suppress(OSError, IndexError):  # no log, or an empty one
        if cell.code:
            path = run.into / "logs" / f"{cell.name}.log"
            log = path.read_text(encoding="utf-8", errors="replace").splitlines()[-1][:200]
    text = f"{cell.name}: {state}, {sum(ended.values())}/{asked or '?'} checks, {bad} broken"
    return f"{text}, {seconds:.0f} s" + (f"; {log}" if log else "")


def _summary(cells: Sequence[RunningCell], run: NodeRun) -> str:
    rows = []
    for cell in cells:
        ended = sorted(counts(cell, run)[0].items())
        outcomes = ", ".join(f"{outcome} {n}" for outcome, n in ended) or "no check"
        rows.append(f"{line(cell, run)}\n  {outcomes}")
    return "\n".join(rows)


def keep(cells: Sequence[RunningCell], run: NodeRun) -> None:
    """Write the archive of the cells' results so far and the summary, completely or not at all,
    beside the bundle and to `--results`."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in _files(run.into):
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(data), 0o644, int(time.time())
            archive.addfile(info, io.BytesIO(data))
    summary = f"{_summary(cells, run)}\n".encode()
    for folder in filter(None, (run.into, run.args.results and Path(run.args.results))):
        write_whole(folder / RESULTS, out.getvalue())
        write_whole(folder / SUMMARY, summary)


def _files(into: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of all results, and of the ends of all logs."""
    room = ARCHIVE_BYTES
    for path in sorted((into / "results").rglob("compat-*/*.json")):
        data = path.read_bytes()
        room -= len(data) + ROW_BYTES
        yield path.relative_to(into).as_posix(), data
    logs = sorted((into / "logs").rglob("*.log"))
    each = min(LOG_BYTES, room // max(len(logs), 1) - ROW_BYTES)
    for path in logs if each > 0 else ():
        # A starting suite removes the previous logs.
        with contextlib.suppress(FileNotFoundError), path.open("rb") as source:
            source.seek(max(0, path.stat().st_size - each))
            yield path.relative_to(into).as_posix(), source.read(each)
