"""Which processes belong to which run: each carries a mark in its environment, and whatever it
starts inherits that, in whatever session or process group.

A mark is `PID.START.COUNT`: the process that called `processes.run`, when that started (a number
comes around again), and which of its calls it was. `PID.START` stands for all its calls. Where one
of ours starts another, the inner one's processes carry both marks: they end with the outer, too.

One that empties its environment is found by its session or its parent; only if it also leaves the
session and its parent is gone, nothing tells any more whose it is.
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
"""Holds the marks, the outermost first, with a space between."""

EXEMPT = "MCORE_COMPAT_WATCHDOG"
"""Who has this variable ends by itself, after what it watches."""

_EXITING = 0x4
"""PF_EXITING of the kernel's `linux/sched.h`: the process is just ending."""

LIMIT_S = 5.0
"""So long it is tried to end processes: one that hangs in the kernel cannot be killed."""

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
    """The mark of one more call of this process."""
    return f"{here()}.{next(_COUNT)}"


def with_inherited(mark: str) -> str:
    """What VARIABLE is to be where a process gets `mark`."""
    return f"{_INHERITED} {mark}".lstrip()


@contextlib.contextmanager
def outlived() -> Iterator[None]:
    """What is started in this block without a mark of its own outlives whoever started us."""
    value = os.environ.pop(VARIABLE, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[VARIABLE] = value


def lives(mark: str) -> bool:
    """Whether the process that a mark names is there, and not just ending."""
    pid, start = (int(word) for word in mark.split(".")[:2])
    stat = _stat(pid)
    return stat is not None and stat[2] == start and stat[0] not in "ZX" and not stat[3] & _EXITING


def end(mark: str, session: int = 0) -> None:
    """Kill all processes that carry `mark`, and what belongs to them though it carries none: what
    they started, and all of their sessions and of `session`. Comes back when none is left, or
    after LIMIT_S."""
    deadline = time.monotonic() + LIMIT_S
    first = _stat(session)
    ended = {session} if first and first[0] == "Z" else set[int]()
    pause = 0.001
    while True:
        pids, ending = _belonging(mark, session)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        # One that ended while it was looked at may have started another: looked at again.
        if (not pids and ending <= ended) or time.monotonic() > deadline:
            return
        ended |= ending
        if pids:
            time.sleep(pause)
            pause = min(2 * pause, 0.05)


def _belonging(mark: str, session: int) -> tuple[list[int], set[int]]:
    """The processes to end, parents before their children, who would otherwise have time to say
    that their child was killed; and those that have ended or are just ending."""
    sessions: dict[int, int] = {}
    marked, exempt, ending = set[int](), {os.getpid()}, set[int]()
    for pid in _all():
        try:
            sessions[pid] = os.getsid(pid)
        except ProcessLookupError:
            ending.add(pid)
            continue
        environ = _read(pid, "environ")
        if environ == b"" and sessions[pid]:  # 0: the kernel's own
            ending.add(pid)
        elif environ:
            variables = b"\0" + environ
            if _carries(variables, mark):
                marked.add(pid)
            if f"\0{EXEMPT}=".encode() in variables:
                exempt.add(pid)
    # Of a session whose leader lives and is unmarked, a marked process is a guest.
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
    """A file of a process: empty where it has ended, None where it is not ours to read."""
    try:
        with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
            return file.read()
    except PermissionError:
        return None
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _stat(pid: int) -> tuple[str, int, int, int] | None:
    """State, parent, time of start (ticks since boot) and the kernel's flags of a process; None
    where it is gone. From proc_pid_stat(5)."""
    # The name in parentheses may itself hold spaces and parentheses.
    fields = (_read(pid, "stat") or b"").rpartition(b")")[2].split()
    if not fields:
        return None
    return fields[0].decode(), int(fields[1]), int(fields[19]), int(fields[6])
