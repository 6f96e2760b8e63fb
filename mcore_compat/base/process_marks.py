"""Finds the processes that belong to a run by a mark in their environment, which child processes
inherit in every session and process group.

A mark is `PID.START.COUNT`: the process that called `processes.run`, its start time (because PIDs
are reused), and the number of the call. `PID.START` stands for all calls of that process. If one
mcore-compat process starts another, the inner one's children carry both marks: they end with the
outer process, too.

A process that clears its environment is found by its session or its parent. Only one that also
left the session and lost its parent cannot be found.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import signal
import time
from collections.abc import Iterator

VARIABLE = "MCORE_COMPAT_RUN"
"""Holds the marks, separated by spaces, the outermost first."""

EXEMPT = "MCORE_COMPAT_WATCHDOG"
"""A process with this variable is a watchdog and ends itself after the process it watches."""

_EXITING = 0x4
"""PF_EXITING of the kernel's `linux/sched.h`: the process is exiting."""

LIMIT_S = 5.0
"""How long to try to kill processes: one that hangs in the kernel cannot be killed."""

_INHERITED = os.environ.get(VARIABLE, "")
_COUNT = itertools.count(1)


def here() -> str:
    """The mark that stands for all calls of this process."""
    return _mark(os.getpid())


@functools.cache
def _mark(pid: int) -> str:
    stat = _stat(pid)
    assert stat is not None
    return f"{pid}.{stat[2]}"


def new() -> str:
    """The mark of a new call of this process."""
    return f"{here()}.{next(_COUNT)}"


def with_inherited(mark: str) -> str:
    """The value of VARIABLE for a child process with `mark`."""
    return f"{_INHERITED} {mark}".lstrip()


@contextlib.contextmanager
def outlived() -> Iterator[None]:
    """Processes that start in this block without their own mark outlive our parent process."""
    value = os.environ.pop(VARIABLE, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[VARIABLE] = value


def lives(mark: str) -> bool:
    """Whether the process that a mark names exists and is not exiting."""
    pid, start = (int(word) for word in mark.split(".")[:2])
    stat = _stat(pid)
    return stat is not None and stat[2] == start and stat[0] not in "ZX" and not stat[3] & _EXITING


def end(mark: str, session: int = 0) -> None:
    """Kill all processes with `mark`, and those without it that belong to them: their children, and
    the members of their sessions and of `session`. Returns when none is left, or after LIMIT_S."""
    deadline = time.monotonic() + LIMIT_S
    first = _stat(session)
    ended = {session} if first and first[0] == "Z" else set[int]()
    pause = 0.001
    while True:
        pids, ending = _belonging(mark, session)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        # A process that ended during the scan may have started another: scan again.
        if (not pids and ending <= ended) or time.monotonic() > deadline:
            return
        ended |= ending
        if pids:
            time.sleep(pause)
            pause = min(2 * pause, 0.05)


def _belonging(mark: str, session: int) -> tuple[list[int], set[int]]:
    """The processes to kill, and those that have ended or are exiting. Parents come before their
    children: otherwise a parent would have time to report that its child was killed."""
    sessions: dict[int, int] = {}
    marked, exempt, ending = set[int](), {os.getpid()}, set[int]()
    for pid in _all():
        try:
            sessions[pid] = os.getsid(pid)
        except ProcessLookupError:
            ending.add(pid)
            continue
        environ = _read(pid, "environ")
        if environ == b"" and sessions[pid]:  # 0: kernel threads
            ending.add(pid)
        elif environ:
            variables = b"\0" + environ
            if _carries(variables, mark):
                marked.add(pid)
            if f"\0{EXEMPT}=".encode() in variables:
                exempt.add(pid)
    # A session whose leader is alive and unmarked is not ours, even with a marked process in it.
    ours = {sessions[pid] for pid in marked}
    ours = {sid for sid in ours if sid in marked or sid not in sessions} | {session} - {0}
    found = marked | {pid for pid, sid in sessions.items() if sid in ours}
    if not found:
        return [], ending
    stats = {pid: stat for pid in sessions if (stat := _stat(pid))}
    level = found
    while level:
        level = {pid for pid, stat in stats.items() if stat[1] in level} - found
        found |= level
    alive = [pid for pid in found - exempt if pid in stats and stats[pid][0] not in "ZX"]
    return sorted(alive, key=lambda pid: (stats[pid][2], pid)), ending


def _carries(variables: bytes, mark: str) -> bool:
    _, there, rest = variables.partition(f"\0{VARIABLE}=".encode())
    marks = rest.partition(b"\0")[0].decode("ascii", "replace").split()
    return bool(there) and any(one == mark or one.startswith(f"{mark}.") for one in marks)


def _all() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _read(pid: int, name: str) -> bytes | None:
    """A /proc file of a process: empty if the process has ended, None without permission."""
    try:
        with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
            return file.read()
    except PermissionError:
        return None
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _stat(pid: int) -> tuple[str, int, int, int] | None:
    """State, parent, start time (ticks since boot) and kernel flags of a process, from
    proc_pid_stat(5); None if it has ended."""
    # The name in parentheses may itself hold spaces and parentheses.
    fields = (_read(pid, "stat") or b"").rpartition(b")")[2].split()
    if not fields:
        return None
    return fields[0].decode(), int(fields[1]), int(fields[19]), int(fields[6])
