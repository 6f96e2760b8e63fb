"""Free resources of the machine that checks run on: disk, memory, limits, and a steady clock.

Tested before a run (`require`), during it and at each check's end (`Sampler`): a failure while one
of them is exhausted is attributed to that. Imports only what a bundle has.
"""

from __future__ import annotations

import contextlib
import os
import resource
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mcore_compat.base.errors import InfrastructureError

MIB = 1 << 20
GIB = 1 << 30

SHM = Path("/dev/shm")
MEMINFO = Path("/proc/meminfo")
GROUP = Path("/sys/fs/cgroup")
"""The files of this process's control group, if it has its own limit (a container)."""

NEEDED = {"folder": 256 * MIB, "shm": 16 * MIB, "memory": 2 * GIB}
"""Bytes that must be free before a run. Measured: the suite uses 7 MiB of a temporary folder, 1.1
GiB of memory and 7.8 GiB of address space (compat-0.16-modelopt0.41, without a GPU)."""

EXHAUSTED = {"folder": 4 * MIB, "shm": MIB, "memory": 64 * MIB}
"""Free bytes below which a failure is attributed to the resource."""

FILES = {"needed": 1_000, "exhausted": 16}
"""The number of files that a folder's disk must still have room for."""

LIMITS = {
    "RLIMIT_AS": (16 * GIB, "address space (ulimit -v)"),
    "RLIMIT_DATA": (8 * GIB, "data segment (ulimit -d)"),
    "RLIMIT_FSIZE": (2 * GIB, "size of a file (ulimit -f)"),
    "RLIMIT_NOFILE": (512, "open files (ulimit -n)"),
    "RLIMIT_NPROC": (256, "processes (ulimit -u)"),
    "RLIMIT_CPU": (7_200, "seconds of processor time (ulimit -t)"),
    "RLIMIT_STACK": (MIB, "stack (ulimit -s)"),
}
"""By limit of a process: the minimum that a suite needs, and its name."""

PAUSE_S = 0.5
STOOD_STILL_S = 15.0
"""Seconds between two samples above which the machine stood still: suspended, stopped,
overloaded."""

OVERLOADED = 10.0
"""Runnable processes per processor above which a passed time limit says nothing."""


def raise_limits() -> None:
    """Raise each soft limit of this process that is too low for a suite, up to its hard limit."""
    for name, (least, _) in LIMITS.items():
        kind = getattr(resource, name)
        soft, hard = resource.getrlimit(kind)
        wanted = least if hard == resource.RLIM_INFINITY else min(least, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            with contextlib.suppress(OSError, ValueError):  # `require` says what is too low
                resource.setrlimit(kind, (wanted, hard))


def require(folders: Iterable[Path]) -> None:
    """Refuse a machine on which a suite could not run to its end.

    Raises:
        InfrastructureError: a limit is too low, or a disk or memory too full; names the first.
    """
    raise_limits()
    for name, (least, words) in LIMITS.items():
        soft = resource.getrlimit(getattr(resource, name))[0]
        if soft != resource.RLIM_INFINITY and soft < least:
            raise InfrastructureError(
                f"{words}: the limit is {soft}, a suite needs {least}; raise the limit"
            )
    for folder in folders:
        short = _short_of(folder, NEEDED, FILES["needed"])
        if short:
            raise InfrastructureError(f"{short}; free some space, or choose another folder")
    left = memory_left()
    if left is not None and left < NEEDED["memory"]:
        raise InfrastructureError(
            f"{_size(left)} of memory are free, a suite needs {_size(NEEDED['memory'])}; free some"
        )


def _short_of(folder: Path, least: dict[str, int], files: int) -> str | None:
    """What a folder lacks, in words; a folder that does not exist yet counts as its parent."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
    try:
        stat = os.statvfs(there)
    except OSError as error:
        return f"{there}: {error.strerror}"
    if stat.f_flag & os.ST_RDONLY or not os.access(there, os.W_OK):
        return f"{there} cannot be written to"
    free = stat.f_bavail * stat.f_frsize
    if stat.f_blocks and free < least["shm" if folder == SHM else "folder"]:
        return f"{there} has {_size(free)} left"
    if stat.f_files and stat.f_favail < files:
        return f"{there} has room for only {stat.f_favail} more files"
    return None


def _size(number: int) -> str:
    return f"{number / GIB:.1f} GiB" if number >= GIB else f"{number / MIB:.1f} MiB"


def memory_left() -> int | None:
    """Bytes of memory that are free, of the machine and of the control group; None if unknown."""
    found = []
    for line in _lines(MEMINFO):
        if line.startswith("MemAvailable:"):
            found.append(int(line.split()[1]) * 1024)
    for limit, usage, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, used = (_number(GROUP / name) for name in (limit, usage))
        if most is None or used is None or most >= 1 << 60:
            continue
        stat = (GROUP / limit).with_name("memory.stat")
        given_back = [int(line.split()[1]) for line in _lines(stat) if line.startswith(f"{cache} ")]
        found.append(max(0, most - used + sum(given_back)))
    return min(found, default=None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)[:1])
    return int(text) if text.isdigit() else None


@dataclass(frozen=True)
class _Clocks:
    """Three clocks at one moment: one that stops while the machine sleeps, one that does not, and
    the wall clock."""

    running: float
    always: float
    wall: float

    @staticmethod
    def now() -> _Clocks:
        return _Clocks(time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME), time.time())

    def problem(self, before: _Clocks) -> str | None:
        """What happened since `before` that makes check results invalid; None if nothing did."""
        passed = self.always - before.always
        if passed > STOOD_STILL_S:
            return f"the machine stood still for {passed:.0f} s"
        jump = (self.wall - before.wall) - passed
        return f"the clock was set by {jump:+.0f} s" if abs(jump) > STOOD_STILL_S else None


def _overload() -> str | None:
    """The number of runnable processes, if it is far above the number of processors."""
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    if load <= OVERLOADED * processors:
        return None
    return f"{load:.0f} processes competed for {processors} processors"


class Sampler:
    """Samples the free resources of the machine; `short` says which were exhausted."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = tuple(folders)
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._seen: list[str] = []
        self._before: list[str] = []
        self._delays: list[str] = []
        self._clocks = _Clocks.now()

    def look(self) -> None:
        """Note the resources that are exhausted now."""
        problems = [_short_of(folder, EXHAUSTED, FILES["exhausted"]) for folder in self._folders]
        left = memory_left()
        if left is not None and left < EXHAUSTED["memory"]:
            problems.append(f"{_size(left)} of memory was left")
        with self._lock:
            clocks, before = _Clocks.now(), self._clocks
            self._clocks = clocks
            self._seen += [one for one in problems if one]
            self._delays += [one for one in (clocks.problem(before), _overload()) if one]

    def short(self, *, late: bool) -> str | None:
        """What was exhausted since the end of the check before the last, in words; None if nothing
        was. Called at each check's end. `late`: it passed its time limit, so that delays since its
        start count, too.

        The window includes the check before, whose samples may show the state at this one's start.
        """
        self.look()
        with self._lock:
            seen, self._before, self._seen = [*self._before, *self._seen], self._seen, []
            delays, self._delays = self._delays, []
        return next(iter([*seen, *(delays if late else ())]), None)

    def _go_on(self) -> None:
        while not self._ended.wait(PAUSE_S):
            self.look()

    @contextmanager
    def running(self) -> Iterator[Sampler]:
        """Sample every half second, in a thread, until the block ends."""
        thread = threading.Thread(target=self._go_on, name="room", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            thread.join()
