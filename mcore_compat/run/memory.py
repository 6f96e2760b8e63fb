"""Whether this machine ran out of memory: a process that it killed says nothing about a cell."""

from __future__ import annotations

from pathlib import Path

VMSTAT = Path("/proc/vmstat")


def kills(path: Path = VMSTAT) -> int:
    """The number of processes that the kernel has killed for lack of memory since it started, also
    in a control group with its own limit (a job). 0 if unknown."""
    try:
        text = path.read_text(encoding="ascii")
    except OSError:
        return 0
    counts = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    return int(counts.get("oom_kill", 0))
