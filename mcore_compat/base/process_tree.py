"""Ends child processes together with their parent, and cleans up their orphans.

`python -m mcore_compat.base.process_tree PARENT PROGRAM …` becomes PROGRAM, and gets SIGTERM when
the process PARENT dies for any reason.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from mcore_compat.base import processes

_PR_SET_CHILD_SUBREAPER = 36

IGNORED = signal.SIGUSR2
"""Slurm's warning signal goes to all processes of a job; only the worker handles it."""


def argv(*words: str | os.PathLike[str]) -> list[str]:
    """The command line that runs `words` so that they end with this process."""
    return [sys.executable, "-m", __name__, str(os.getpid()), *(os.fspath(word) for word in words)]


def adopt_orphans() -> None:
    """Make orphans of ended children children of this process."""
    processes.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_children(limit: float = 10.0) -> int:
    """Kill all children of this process and, with `adopt_orphans`, theirs; returns their number.

    Use it only when no child is needed any more: it consumes their exit statuses.
    """
    ended = 0
    deadline = time.monotonic() + limit
    while (children := _children()) and time.monotonic() < deadline:
        for pid in children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        for pid in children:
            with contextlib.suppress(ChildProcessError):
                ended += os.waitpid(pid, 0)[0] == pid
    return ended


def _children() -> list[int]:
    return [
        int(word)
        for path in Path("/proc/self/task").glob("*/children")
        for word in path.read_text().split()
    ]


def main() -> None:
    """Replace this process by the program."""
    parent, *words = sys.argv[1:]
    processes.die_with_parent(signal.SIGTERM)
    if os.getppid() != int(parent):  # the parent died before `die_with_parent` took effect
        raise SystemExit(1)
    signal.signal(IGNORED, signal.SIG_IGN)
    os.execvp(words[0], words)


if __name__ == "__main__":
    main()
