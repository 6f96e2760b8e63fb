"""Recognizes messages of other programs about exhausted disk, memory and other limits.

Standard library only. This is the one list: all code that distinguishes a fault of the machine
from a fault of a package uses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_TYPES = frozenset({"OutOfMemoryError", "MemoryError", "bad_alloc"})
"""Exceptions that mean that memory ran out, on the GPU or the machine."""

_EXHAUSTED = re.compile(
    r"No space left on device|Disk quota exceeded|Read-only file system|Too many open files"
    r"|File too large|Stale file handle|Input/output error|Transport endpoint is not connected"
    r"|Structure needs cleaning|Resource temporarily unavailable|can't start new thread"
    r"|failed to map segment|Cannot allocate memory(?! in static TLS)|not enough memory"
    r"|can't allocate memory|\bout of memory\b|memory exhausted|std::bad_alloc"
    r"|memory allocation of \d+ bytes failed|\bBus error\b"
    r"|insufficient shared memory|Error while creating shared memory segment"
    r"|\[Errno (?:5|12|23|24|27|28|30|116|122)\]"
    r"|Killed signal terminated program|signal 9 [\[(]Kill|MemoryError",
    re.IGNORECASE,
)
"""Messages of the kernel, the C library, Python, compilers, torch and NCCL when disk, memory,
shared memory, file descriptors or processes run out. The numbers are Linux's EIO, ENOMEM, ENFILE,
EMFILE, EFBIG, ENOSPC, EROFS, ESTALE and EDQUOT. A lack of thread-local storage is not included:
how much libraries request is a property of the packages."""


def line_of(lines: Iterable[str], also: re.Pattern[str] | None = None) -> str | None:
    """The first line that reports exhaustion, printable and cut to 300 characters, or None. `also`:
    a further pattern to look for."""
    for line in lines:
        kind = line.partition(":")[0].rpartition(".")[2]
        if kind in _TYPES or _EXHAUSTED.search(line) or (also and also.search(line)):
            return "".join(c if c.isprintable() else "�" for c in line.strip()[:300])
    return None


def ran_out(output: str) -> str | None:
    """What a failed program ran out of according to its output, in a few words, or None."""
    line = line_of(output.splitlines())
    if line and re.search(r"memory|Kill|bad_alloc", line):
        return "memory ran out"
    if line and re.search(r"space|quota", line, re.IGNORECASE):
        return "the disk is full"
    return line
