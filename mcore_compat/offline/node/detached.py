"""Runs in a separate session, which outlives the command that started it.

`run.py --wait` follows it without other files of the bundle.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from mcore_compat.offline.node.run_script import DETACHED, DONE, LOG, lock, write_whole


def detach(into: Path, run: Callable[[], int]) -> int:
    """Start `run` in a separate session; returns 0 at once, 2 if one already runs in `into`."""
    into.mkdir(parents=True, exist_ok=True)
    file = (into / DETACHED).open("a")  # the child holds its lock as well, until it ends
    if not lock(file):
        print(f"run.py: a run is already active in {into}; follow it: --wait", file=sys.stderr)
        return 2
    (into / DONE).unlink(missing_ok=True)
    # --wait shows the log: not that of the run before
    (into / LOG).unlink(missing_ok=True)
    pid = in_session(run, into / LOG, lambda code: write_whole(into / DONE, str(code).encode()))
    print(f"detached, as process {pid}; follow it with: run.py --wait SECONDS", flush=True)
    return 0


def in_session(
    call: Callable[[], int], log: Path, at_end: Callable[[int], None] = lambda code: None
) -> int:
    """Start a process in a separate session that runs `call` and ends with its exit code, 3 if it
    raises; its output goes to `log`. Returns its PID."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 3
    try:
        os.setsid()
        with log.open("w", buffering=1, encoding="utf-8") as out, open(os.devnull) as nothing:
            for number, file in enumerate((nothing, out, out)):
                os.dup2(file.fileno(), number)
            try:
                code = call()
            except BaseException:
                traceback.print_exc(file=out)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        at_end(code)
        os._exit(code)
