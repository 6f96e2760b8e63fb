"""Stage environment → suite: run the suite inside a cell and hand on its events as they come."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcore_compat.base import files
from mcore_compat.base.errors import InfrastructureError, UsageError
from mcore_compat.base.files import ROOT
from mcore_compat.base.processes import Completed, Runner

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""What names the devices that a process may see; empty: none."""

SUITE_LIMIT_S = 1800.0
"""Seconds that a whole suite may take before its process group is killed."""


def need_limit(limit: float | None) -> None:
    """Raises UsageError where `--limit` is given and is no time that can pass."""
    if limit is not None and not 0 < limit < math.inf:
        raise UsageError("--limit: a time limit must be more than 0 s, and a number")


def digest(suite: str, checks: Path) -> str:
    """Digest of a part of the suite: of its checks, and of the suite that they are made of."""
    return files.sha256_bytes(f"{suite}\n{files.sha256_tree(checks)}".encode())


@dataclass(kw_only=True)
class EventTail:
    """Reads the lines that a growing events file has gained since the last look."""

    path: Path
    on_event: Callable[[Mapping[str, Any]], None]
    _read: int = field(default=0, init=False)
    seen: int = field(default=0, init=False)

    def drain(self) -> None:
        """Pass on every whole line; a line still being written waits for the next call."""
        if not self.path.exists():
            return
        with self.path.open("rb") as source:
            source.seek(self._read)
            data = source.read()
        whole = data.rfind(b"\n") + 1
        for line in data[:whole].splitlines(keepends=True):
            # Counted first: an interruption while it is taken must not bring it twice.
            self._read += len(line)
            self.seen += 1
            self.on_event(json.loads(line))


def run_suite(
    *,
    python: Path,
    tools: Path,
    variables: Mapping[str, str],
    logs: Path,
    run: Runner,
    on_event: Callable[[Mapping[str, Any]], None],
    on_line: Callable[[str], None],
    only: str | None = None,
    check_limit: float | None = None,
    checks: Path | None = None,
    limit: float | None = None,
) -> Completed:
    """Run the suite with a cell's `python`; `on_event` gets each event, `on_line` each line.

    `check_limit`: seconds that a check may take at most, also one that asks for more; None: each
    its own limit, or the suite's. `checks`: the folder of another part of the suite than its main
    one; `limit`: seconds that it may take as a whole, where not `SUITE_LIMIT_S`.

    Raises:
        InfrastructureError: the suite did not come to its first event, or was killed as a whole.
    """
    whole = SUITE_LIMIT_S if limit is None else limit
    logs.mkdir(parents=True, exist_ok=True)
    events = logs / "events.jsonl"
    events.unlink(missing_ok=True)
    log = logs / "suite.log"
    log.unlink(missing_ok=True)
    tail = EventTail(path=events, on_event=on_event)

    def line(text: str) -> None:
        tail.drain()
        on_line(text)

    argv: list[str | os.PathLike[str]] = [python, "-u", ROOT / "suite" / "run.py"]
    argv += ["--tools", tools, "--events", events]
    if check_limit is not None:
        argv += ["--timeout", str(check_limit)]
    if variables.get(VISIBLE) == "":
        # All devices are hidden: asked for one, the suite would take that for a fault of torch's.
        argv += ["--gpu", "never"]
    if only:
        argv += ["--only", only]
    if checks:
        argv += ["--checks", checks]
    try:
        done = run(argv, timeout=whole, env=variables, cwd=ROOT, log=log, on_line=line)
    finally:
        tail.drain()
    if tail.seen == 0:
        last = done.output.strip().splitlines()[-1:] or ["it printed nothing"]
        raise InfrastructureError(f"the suite did not start: {last[0]} (log: {log})")
    if done.timed_out:
        raise InfrastructureError(f"the suite passed its limit of {whole:.0f} s (log: {log})")
    return done
