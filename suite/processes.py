"""Finding and ending processes through /proc, also those that left their group or session."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def adopt_orphans() -> None:
    """Make orphaned descendants children of this process instead of pid 1's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent dies, however it dies."""
    _prctl(_PR_SET_PDEATHSIG, number)


def _parents() -> dict[int, int]:
    """Parent pid by pid, of every process that can be seen."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name in parentheses may itself hold spaces and parentheses.
            found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    return found


def children(pid: int) -> set[int]:
    """The direct children of `pid`."""
    return {child for child, parent in _parents().items() if parent == pid}


def descendants(pid: int) -> set[int]:
    """Every process below `pid`, whatever its group or session."""
    parents = _parents()
    found: set[int] = set()
    level = {pid}
    while level:
        level = {child for child, parent in parents.items() if parent in level} - found
        found |= level
    return found


def command(pid: int) -> str:
    """The command line of `pid`, `?` once it is gone."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return "?"
    return raw.replace(b"\0", b" ").decode("utf-8", "replace").strip()[:200] or "?"


def kill(pids: set[int], number: int = signal.SIGKILL) -> None:
    """Send a signal to each; one that is gone already is no error."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def end_children(spare: set[int], limit: float = 10.0) -> list[str]:
    """Kill and reap every descendant of this process, except `spare` and what is below those.

    With `adopt_orphans`, a process whose parent died is a child of ours, so that killing
    level by level until no child is left reaches all of them. Returns the commands that were
    still running.

    Raises:
        RuntimeError: some process did not end within `limit` seconds (it hangs in the kernel).
    """
    running: dict[int, str] = {}
    deadline = time.monotonic() + limit
    while True:
        mine = children(os.getpid()) - spare
        if not mine:
            return sorted(running.values())
        tree = set().union(mine, *(descendants(pid) for pid in mine))
        for pid in tree:
            if _alive(pid):
                running.setdefault(pid, command(pid))
        kill(tree)
        for pid in mine:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if time.monotonic() > deadline:
            raise RuntimeError(f"processes that do not end: {sorted(mine)}")
        time.sleep(0.005)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
