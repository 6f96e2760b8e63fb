"""Whether this machine ran out of memory: what it killed then says nothing about a cell."""

from __future__ import annotations

from pathlib import Path

VMSTAT = Path("/proc/vmstat")


def kills(path: Path = VMSTAT) -> int:
    """How many processes the kernel has ended for want of memory, since it started; of a group
    with a limit of its own (a job), too. 0 where it does not tell."""
    try:
        text = path.read_text(encoding="ascii")
    except OSError:
        return 0
    counts = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    return int(counts.get("oom_kill", 0))
