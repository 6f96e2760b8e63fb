"""On the other machine: cells side by side, each in a process of its own, and one archive of what
came of them, which is there at every moment.

Each process is told by the kernel when the parent dies, however it dies, and then ends what it has
started itself.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from mcore_compat.base import processes
from mcore_compat.base.errors import Interrupted
from mcore_compat.offline.node.environment import PARTS, NodeRun
from mcore_compat.offline.node.run_script import RESULTS, SUMMARY, put

PROGRESS_S, ARCHIVE_S = 15.0, 10.0
"""How often a line is printed of each cell, and the archive is made anew."""

ENDS_S = 30.0
"""How long a process may take to end what it has started."""

LOG_BYTES = 200_000
"""At most of each log, from its end."""

ARCHIVE_BYTES = 15 << 20
"""What an archive may have, for it is to come through a narrow door: all evidence, and of the logs
what room is left for."""

ROW_BYTES = 1024
"""What a file adds to a tar at most, beside its content."""

BAD = ("broken", "crashed", "timed-out")

Cell = Callable[[str], int]
"""Runs a cell; the exit code."""


@dataclass(kw_only=True)
class RunningCell:
    """A cell that runs, or did: `code` is None until its process has ended. `started` is on the
    monotonic clock, `began` the time of day, which tells its files from those of earlier runs."""

    name: str
    pid: int
    started: float
    began: float
    seconds: float = 0.0
    code: int | None = None


def run(names: Sequence[str], count: int, here: NodeRun, cell: Cell) -> int:
    """Run cells, `count` at a time; the highest exit code of them."""
    (here.into / "logs").mkdir(parents=True, exist_ok=True)
    waiting, every = list(names), list[RunningCell]()
    printed = kept = time.monotonic()
    try:
        while waiting or any(one.code is None for one in every):
            while waiting and sum(one.code is None for one in every) < count:
                every.append(_started(waiting.pop(0), here, cell))
            _reap(every, here)
            now = time.monotonic()
            if now - kept > ARCHIVE_S:
                keep(every, here)
                kept = time.monotonic()
            if now - printed > PROGRESS_S:
                print("\n".join(line(one, here) for one in every if one.code is None), flush=True)
                printed = now
            time.sleep(0.1)
    except KeyboardInterrupt:
        _end(every)
        keep(every, here)
        return Interrupted.exit_code
    keep(every, here)
    print(_summary(every, here), flush=True)
    return max((one.code or 0 for one in every), default=0)


def _started(name: str, here: NodeRun, cell: Cell) -> RunningCell:
    sys.stdout.flush()
    sys.stderr.flush()
    parent, began = os.getpid(), time.time()
    pid = os.fork()
    if pid == 0:
        _child(name, here, cell, parent)
    return RunningCell(name=name, pid=pid, started=time.monotonic(), began=began)


def _child(name: str, here: NodeRun, cell: Cell, parent: int) -> NoReturn:
    """The whole life of a cell's process."""
    code = 70
    try:
        os.setsid()  # Ctrl-C is the parent's to pass on
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        processes.die_with_parent(signal.SIGTERM)
        if os.getppid() != parent:  # it died before that was asked for
            raise KeyboardInterrupt
        with (here.into / "logs" / f"{name}.log").open("w", buffering=1, encoding="utf-8") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            code = cell(name)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _reap(every: Sequence[RunningCell], here: NodeRun) -> None:
    """Note which processes have ended, and say how."""
    for one in every:
        if one.code is None:
            pid, status = os.waitpid(one.pid, os.WNOHANG)
            if pid:
                one.code = os.waitstatus_to_exitcode(status)
                one.code = one.code if one.code >= 0 else 128 - one.code
                one.seconds = time.monotonic() - one.started
                print(line(one, here), flush=True)


def _end(every: Sequence[RunningCell]) -> None:
    """Have all that run end, and what they have started."""
    deadline = time.monotonic() + ENDS_S
    for number in (signal.SIGTERM, signal.SIGKILL):
        for one in every:
            if one.code is None:
                os.kill(one.pid, number)
        while any(one.code is None for one in every) and time.monotonic() < deadline:
            for one in every:
                if one.code is None and os.waitpid(one.pid, os.WNOHANG)[0]:
                    one.code = Interrupted.exit_code
            time.sleep(0.05)


def counts(one: RunningCell, here: NodeRun) -> tuple[Counter[str], int]:
    """How many checks of a cell ended, by outcome, and how many are asked so far; in this run."""
    found: Counter[str] = Counter()
    asked = 0
    for name in (one.name, *(f"{one.name}.{part}" for part in PARTS)):
        path = here.into / "logs" / name / "events.jsonl"
        for raw in _lines(path, one.began):
            if not raw.endswith(b"\n"):
                continue  # still being written
            event = json.loads(raw)
            if event["event"] == "start":
                asked += len(event["checks"])
            elif event["event"] == "check":
                found[event["outcome"]] += 1
    return found, asked


def _lines(path: Path, began: float) -> list[bytes]:
    """The lines of a file that was written since; none where it is not there, or an older one."""
    with contextlib.suppress(FileNotFoundError):  # a suite that starts removes the last one's
        if path.stat().st_mtime >= began:
            return path.read_bytes().splitlines(keepends=True)
    return []


def line(one: RunningCell, here: NodeRun) -> str:
    """How far a cell is, or what it came to."""
    found, asked = counts(one, here)
    bad = sum(found[outcome] for outcome in BAD)
    seconds = time.monotonic() - one.started if one.code is None else one.seconds
    how = {None: "running", 0: "ended"}.get(one.code, f"failed with {one.code}")
    log = _last(here.into / "logs" / f"{one.name}.log") if one.code else ""
    text = f"{one.name}: {how}, {sum(found.values())}/{asked or '?'} checks, {bad} broken"
    return f"{text}, {seconds:.0f} s" + (f"; {log}" if log else "")


def _last(path: Path) -> str:
    """The last line of a log."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return lines[-1][:200] if lines else ""


def _summary(every: Sequence[RunningCell], here: NodeRun) -> str:
    rows = []
    for one in every:
        found = ", ".join(f"{outcome} {n}" for outcome, n in sorted(counts(one, here)[0].items()))
        rows.append(f"{line(one, here)}\n  {found or 'no check'}")
    return "\n".join(rows)


def keep(every: Sequence[RunningCell], here: NodeRun) -> None:
    """Write the archive of what came of the cells so far, and how they stand, whole or not at all;
    beside the bundle, and where `--results` says."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in _files(here.into):
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(data), 0o644, int(time.time())
            archive.addfile(info, io.BytesIO(data))
    summary = f"{_summary(every, here)}\n".encode()
    for folder in filter(None, (here.into, here.args.results and Path(here.args.results))):
        put(folder / RESULTS, out.getvalue())
        put(folder / SUMMARY, summary)


def _files(into: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of all evidence, and of the ends of all logs."""
    room = ARCHIVE_BYTES
    for path in sorted((into / "evidence").rglob("compat-*/*.json")):
        data = path.read_bytes()
        room -= len(data) + ROW_BYTES
        yield path.relative_to(into).as_posix(), data
    logs = sorted((into / "logs").rglob("*.log"))
    each = min(LOG_BYTES, room // max(len(logs), 1) - ROW_BYTES)
    for path in logs if each > 0 else ():
        with contextlib.suppress(FileNotFoundError):  # a suite that starts removes the last one's
            yield path.relative_to(into).as_posix(), _end_of(path, each)


def _end_of(path: Path, size: int) -> bytes:
    """The last bytes of a file."""
    with path.open("rb") as source:
        source.seek(max(0, path.stat().st_size - size))
        return source.read(size)
