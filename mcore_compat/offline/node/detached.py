"""A run in a session of its own, which outlives the command that began it.

`run.py --wait` follows it, and needs nothing of the bundle for that.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from mcore_compat.offline.node.run_script import DETACHED, DONE, LOG, lock, write_whole


def detach(into: Path, run: Callable[[], int]) -> int:
    """Do `run` in a session of its own; 0 at once, 2 where one runs in `into` already."""
    into.mkdir(parents=True, exist_ok=True)
    file = (into / DETACHED).open("a")  # the child holds its lock as well, until it ends
    if not lock(file):
        print(f"run.py: a run goes on in {into} already; ask it with --wait", file=sys.stderr)
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
    """The number of a process with a session of its own that makes `call` and ends with its exit
    code, 3 where that raises; what it prints goes to `log`."""
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
