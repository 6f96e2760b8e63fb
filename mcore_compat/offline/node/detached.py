"""On the other machine: a run in a session of its own, which outlives the command that began it.

`run.py --wait` follows it, and needs nothing of the bundle for that.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from mcore_compat.offline.node.run_script import DETACHED, DONE, LOG, lock, write_whole


def detach(into: Path, run: Callable[[], int]) -> int:
    """Do `run` in a session of its own; 0 at once, 2 where one runs in `into` already."""
    into.mkdir(parents=True, exist_ok=True)
    file = (into / DETACHED).open("a")  # the child holds its lock as well, until it ends
    if not lock(file):
        print(f"run.py: a run goes on in {into} already; ask it with --wait", file=sys.stderr)
        return 2
    (into / DONE).unlink(missing_ok=True)
    (into / LOG).unlink(missing_ok=True)  # --wait shows it: not that of the run before
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        print(f"detached, as process {pid}; follow it with: run.py --wait SECONDS", flush=True)
        return 0
    _child(into, run)


def _child(into: Path, run: Callable[[], int]) -> NoReturn:
    """The whole life of the detached process."""
    code = 3
    try:
        os.setsid()
        with (into / LOG).open("w", buffering=1) as log, open(os.devnull) as nothing:
            for number, file in enumerate((nothing, log, log)):
                os.dup2(file.fileno(), number)
            try:
                code = run()
            except BaseException:
                traceback.print_exc(file=log)
            sys.stdout.flush()
            sys.stderr.flush()
    finally:
        write_whole(into / DONE, str(code).encode())
        os._exit(code)
